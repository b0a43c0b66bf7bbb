//! A receiver of alerts: remembers what was posted.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What the receiver does with the next connections, before it takes everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Closes the connection without an answer.
    Hangs,
    /// Answers with this status.
    Answers(u16),
}

/// A receiver on a port of its own; its thread ends with the test.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    taken: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    /// A receiver that is in these moods first.
    pub(crate) fn start(moods: &[Mood]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (list, mut moods) = (taken.clone(), VecDeque::from(moods.to_vec()));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                match moods.pop_front() {
                    Some(Mood::Hangs) => drop(stream),
                    Some(Mood::Answers(status)) => drop(answer(stream.unwrap(), status)),
                    None => {
                        if let Some(posted) = answer(stream.unwrap(), 200) {
                            list.lock().unwrap().push(posted);
                        }
                    }
                }
            }
        });
        Self { address, taken }
    }

    /// Its address for a policy or the command line.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All elements taken so far, with the path they were posted to.
    pub(crate) fn elements(&self) -> Vec<(String, Value)> {
        let taken = self.taken.lock().unwrap();
        let all = taken.iter().flat_map(|(path, body)| {
            let elements = body.as_array().unwrap().iter();
            elements.map(|element| (path.clone(), element.clone()))
        });
        all.collect()
    }
}

fn answer(mut stream: TcpStream, status: u16) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut first, mut length, mut line) = (String::new(), 0, String::new());
    reader.read_line(&mut first).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    Some((path, serde_json::from_slice(&body).ok()?))
}
