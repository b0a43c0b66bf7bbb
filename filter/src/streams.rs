//! The streams of a VM, by the numbers that the host gives them.
//!
//! Places are used again and never given back, so there are as many as there were streams at once at
//! the peak; the host bounds that. Numbers come one after another, which spreads them evenly.

use crate::stream::Stream;

/// Lists that streams stand in by their number. A power of two: the number's low bits choose.
const LISTS: usize = 1024;

/// A stream, and the next one of its list.
struct Place {
    id: u32,
    next: Option<Box<Place>>,
    stream: Stream,
}

/// See the module documentation.
pub(crate) struct Streams {
    lists: [Option<Box<Place>>; LISTS],
    free: Option<Box<Place>>,
}

impl Streams {
    pub(crate) const fn new() -> Self {
        Self {
            lists: [const { None }; LISTS],
            free: None,
        }
    }

    fn list(&mut self, id: u32) -> &mut Option<Box<Place>> {
        match self.lists.get_mut(id as usize % LISTS) {
            Some(list) => list,
            None => &mut self.free,
        }
    }

    /// A new stream of a root context. Of two with one number the later one counts.
    pub(crate) fn open(&mut self, id: u32, root: u32) {
        let mut place = match self.free.take() {
            Some(mut place) => {
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

    /// Forgets a stream; false when there is none of that number.
    pub(crate) fn close(&mut self, id: u32) -> bool {
        let mut link = self.list(id);
        while link.as_ref().is_some_and(|place| place.id != id) {
            match link {
                Some(place) => link = &mut place.next,
                None => return false,
            }
        }
        let Some(mut place) = link.take() else {
            return false;
        };
        *link = place.next.take();
        place.stream.clear();
        place.next = self.free.take();
        self.free = Some(place);
        true
    }
}

#[cold]
#[inline(never)]
fn another() -> Box<Place> {
    Box::new(Place {
        id: 0,
        next: None,
        stream: Stream::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(streams: &Streams) -> usize {
        std::iter::successors(streams.free.as_ref(), |place| place.next.as_ref()).count()
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
                assert!(streams.close(id));
                assert!(!streams.close(id), "closed once");
                assert!(streams.find(id).is_none());
            }
            for id in &open {
                assert_eq!(streams.find(*id).unwrap().root, id / 3);
            }
        }
        assert_eq!(free(&streams) + open.len(), peak);
        for id in open {
            assert!(streams.close(id));
        }
        assert!(streams.lists.iter().all(Option::is_none));
    }

    #[test]
    fn of_two_streams_with_one_number_the_later_one_is_found() {
        let mut streams = Streams::new();
        streams.open(5, 1);
        streams.open(5, 2);
        assert_eq!(streams.find(5).unwrap().root, 2);
        assert!(streams.close(5));
        assert_eq!(streams.find(5).unwrap().root, 1);
        assert!(streams.close(5));
        assert!(!streams.close(5));
    }
}
