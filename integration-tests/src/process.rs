//! A child process that cannot outlive its owner.
//!
//! It is killed by its own process id when the fixture is dropped, and by the kernel when the
//! whole owning process dies (`setpriv --pdeathsig`, part of util-linux; without that tool only
//! the drop remains). Output goes to one file in a temporary folder and is shown when a test
//! panics. It runs in a process group of its own, so a terminal's Ctrl-C reaches the owner only.
//!
//! Not a supervisor: nothing is restarted.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How many lines of a process's output a failed test shows.
const SHOWN_LINES: usize = 60;

/// A running program, killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; standard output and error are appended to `<folder>/<name>.log`.
    pub fn start<I, S>(name: &str, program: &Path, arguments: I, folder: &Path) -> Result<Self>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let log = folder.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open the log file `{}`", log.display()))?;
        let mut command = dying_with_us(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the process has ended, with the last lines it wrote.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "`{}` ended with {status}:\n{}",
                self.name,
                self.last_lines()
            );
        }
        Ok(())
    }

    /// Ends the process at once (SIGKILL) and waits for it.
    pub fn kill(&mut self) -> Result<()> {
        // An error means that it has ended already; waiting is right in both cases.
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to end (SIGTERM), waits at most `limit`, then kills it.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        if let Some(id) = i32::try_from(self.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            // The process may have ended by itself in the meantime.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > limit {
                self.kill()?;
                bail!(
                    "`{}` did not end within {} ms of SIGTERM",
                    self.name,
                    limit.as_millis()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything the process has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Resident set size in KiB, from the kernel.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("no resident size for `{}`", self.name))
    }

    fn last_lines(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let first = lines.len().saturating_sub(SHOWN_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
        if thread::panicking() {
            eprintln!(
                "--- last lines of {} ---\n{}\n---",
                self.name,
                self.last_lines()
            );
        }
    }
}

/// A command that the kernel kills when the thread that started it ends.
fn dying_with_us(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// The parent-death signal follows the starting thread, not the process, and test and runtime
/// threads come and go: so one thread that never ends starts everything.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static JOBS: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in receiver {
                // Nobody listening means that the caller is gone; the child is then dropped.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    jobs.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .send((command, reply))
        .ok()
        .context("the starting thread has ended")?;
    Ok(answer.recv().context("the starting thread has ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone_and_its_output_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["-c", "echo started; exec sleep 600"];
        let process =
            Process::start("sleeper", Path::new("/bin/sh"), arguments, folder.path()).unwrap();
        let id = process.id();
        let log = folder.path().join("sleeper.log");
        while fs::read_to_string(&log).unwrap().is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(process.resident_kib().unwrap() > 0);
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        assert_eq!(fs::read_to_string(&log).unwrap(), "started\n");
    }

    #[test]
    fn a_process_that_ended_is_reported_with_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["-c", "echo reason; exit 3"];
        let mut process =
            Process::start("failing", Path::new("/bin/sh"), arguments, folder.path()).unwrap();
        let error = loop {
            if let Err(error) = process.check_alive() {
                break error.to_string();
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(error.contains("reason") && error.contains('3'), "{error}");
    }
}
