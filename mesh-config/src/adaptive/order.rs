//! Sorting in few bytes: the filter links it, and the standard library's sort is six kilobytes of
//! code for each kind of element.

/// Sorts by a total order (heap sort: no allocation, n log n). Elements that are equal may change
/// places.
pub(crate) fn sort<T>(items: &mut [T], before: impl Fn(&T, &T) -> bool) {
    let length = items.len();
    for root in (0..length / 2).rev() {
        sift(items, root, length, &before);
    }
    for end in (1..length).rev() {
        items.swap(0, end);
        sift(items, 0, end, &before);
    }
}

/// Moves the element at `root` down until none below it, of the first `end`, is greater.
fn sift<T>(items: &mut [T], mut root: usize, end: usize, before: &impl Fn(&T, &T) -> bool) {
    loop {
        let left = 2 * root + 1;
        let mut greatest = root;
        for child in [left, left + 1] {
            let (Some(held), Some(other)) = (items.get(greatest), items.get(child)) else {
                break;
            };
            if child < end && before(held, other) {
                greatest = child;
            }
        }
        if greatest == root {
            return;
        }
        items.swap(root, greatest);
        root = greatest;
    }
}

#[cfg(test)]
mod tests {
    use super::sort;

    #[test]
    fn it_sorts_as_the_standard_library_does() {
        let mut rng = fastrand::Rng::with_seed(1);
        for length in (0..40).chain([1_000, 4_096]) {
            let mut items: Vec<u16> = (0..length).map(|_| rng.u16(..50)).collect();
            let mut wanted = items.clone();
            wanted.sort_unstable();
            sort(&mut items, |a, b| a < b);
            assert_eq!(items, wanted);
        }
    }
}
