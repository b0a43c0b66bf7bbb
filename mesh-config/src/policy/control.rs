//! Section `control`: how several collectors agree on the adaptive rates.

use crate::section::section;

section! {
    /// How several collectors behind one address agree on the adaptive rates.
    Control {
        /// Address of the collector that makes the table of rates when there are several, such as
        /// `http://collector-0.collector:4318`. It is the same in the policy of all of them: the
        /// one that finds itself there leads, the others send it their counts and give out its
        /// table. Empty: a collector goes by what it receives itself.
        leader: String = String::new();
    }
}
