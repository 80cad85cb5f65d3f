//! A node, whatever happens to it.

use proptest::collection::vec;
use proptest::prelude::*;

use p2ps::node::check;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_list_of_operations_breaks_a_node(ops in vec(any::<u8>(), 0..1500)) {
        check::endpoint_ops(&ops);
    }

    #[test]
    fn no_list_of_operations_breaks_a_node_with_neighbours(
        setup in any::<u8>(),
        ops in vec(any::<u8>(), 0..1500),
    ) {
        // Two callers and a parent get their channels first: drawn at random that takes many tries.
        let mut list = vec![setup];
        for caller in 0..2 {
            list.extend([1, caller, caller, 2, caller, caller, 0]);
        }
        list.extend([8, 0, 100, 3, 3, setup & 4, 0]);
        list.extend(ops);
        check::endpoint_ops(&list);
    }
}
