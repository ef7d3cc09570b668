//! Order: the one way of sorting where a configuration is read. A heap's code is a tenth of what the standard library has for every type that is
//! sorted, and a module is loaded by every worker.

use std::collections::BinaryHeap;

/// The items from the smallest to the largest.
pub(crate) fn sorted<T: Ord>(items: Vec<T>) -> Vec<T> {
    BinaryHeap::from(items).into_sorted_vec()
}
