//! The streams of a VM, by the numbers that the host gives them.
//!
//! Places are used again and never given back, so there are as many as there were streams at once at
//! the peak; the host bounds that. Numbers come one after another, which spreads them evenly.

use crate::stream::Stream;

/// Lists that streams stand in by their number. A power of two: the number's low bits choose.
const LISTS: usize = 1024;

/// A stream, and the next one of its list. It is never given back, so lists are plain references:
/// nothing has to be dropped.
pub(crate) struct Place {
    id: u32,
    next: Link,
    pub(crate) stream: Stream,
}

type Link = Option<&'static mut Place>;

/// See the module documentation.
pub(crate) struct Streams {
    lists: [Link; LISTS],
    free: Link,
}

impl Streams {
    pub(crate) const fn new() -> Self {
        Self {
            lists: [const { None }; LISTS],
            free: None,
        }
    }

    fn list(&mut self, id: u32) -> &mut Link {
        match self.lists.get_mut(id as usize % LISTS) {
            Some(list) => list,
            None => &mut self.free,
        }
    }

    /// A new stream of a root context. Of two with one number the later one counts.
    pub(crate) fn open(&mut self, id: u32, root: u32) {
        let place = match self.free.take() {
            Some(place) => {
                self.free = place.next.take();
                place
            }
            None => another(),
        };
        place.id = id;
        place.stream.renew(root);
        let list = self.list(id);
        place.next = list.take();
        *list = Some(place);
    }

    pub(crate) fn find(&mut self, id: u32) -> Option<&mut Stream> {
        let mut next = self.list(id).as_deref_mut();
        while let Some(place) = next {
            if place.id == id {
                return Some(&mut place.stream);
            }
            next = place.next.as_deref_mut();
        }
        None
    }

    /// Takes a stream out, to be [given back](Self::close).
    pub(crate) fn take(&mut self, id: u32) -> Option<&'static mut Place> {
        let mut link = self.list(id);
        loop {
            match link {
                None => return None,
                Some(place) if place.id == id => break,
                Some(place) => link = &mut place.next,
            }
        }
        let place = link.take()?;
        *link = place.next.take();
        Some(place)
    }

    /// Makes the place of a stream that was taken out free.
    pub(crate) fn close(&mut self, place: &'static mut Place) {
        place.stream.clear();
        place.next = self.free.take();
        self.free = Some(place);
    }
}

#[cold]
#[inline(never)]
fn another() -> &'static mut Place {
    Box::leak(Box::new(Place {
        id: 0,
        next: None,
        stream: Stream::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(streams: &Streams) -> usize {
        std::iter::successors(streams.free.as_ref(), |place| place.next.as_ref()).count()
    }

    fn close(streams: &mut Streams, id: u32) -> bool {
        let place = streams.take(id);
        let known = place.is_some();
        if let Some(place) = place {
            streams.close(place);
        }
        known
    }

    #[test]
    fn streams_are_found_by_number_and_their_places_used_again() {
        let mut streams = Streams::new();
        let mut rng = fastrand::Rng::with_seed(11);
        let mut open: Vec<u32> = Vec::new();
        let mut peak = 0;
        for number in 0..20_000_u32 {
            // Some stay while the numbers go round the lists many times.
            streams.open(number * 3, number);
            open.push(number * 3);
            peak = peak.max(open.len());
            while open.len() > 40 || (rng.u8(..) < 200 && open.len() > 20) {
                let id = open.swap_remove(rng.usize(..open.len()));
                assert!(close(&mut streams, id));
                assert!(!close(&mut streams, id), "closed once");
                assert!(streams.find(id).is_none());
            }
            for id in &open {
                assert_eq!(streams.find(*id).unwrap().root, id / 3);
            }
        }
        assert_eq!(free(&streams) + open.len(), peak);
        for id in open {
            assert!(close(&mut streams, id));
        }
        assert!(streams.lists.iter().all(Option::is_none));
    }

    #[test]
    fn of_two_streams_with_one_number_the_later_one_is_found() {
        let mut streams = Streams::new();
        streams.open(5, 1);
        streams.open(5, 2);
        assert_eq!(streams.find(5).unwrap().root, 2);
        assert!(close(&mut streams, 5));
        assert_eq!(streams.find(5).unwrap().root, 1);
        assert!(close(&mut streams, 5));
        assert!(!close(&mut streams, 5));
    }
}
