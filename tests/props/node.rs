//! A node, whatever happens to it.

use proptest::collection::vec;
use proptest::prelude::*;

use p2ps::node::check;

/// What fuzzing found and was mended, shortened.
const FOUND: [(&str, &str); 2] = [
    (
        "parents that call us on the socket that we called them from",
        "01010000623a00002b2b000000000000010101017900ca93130100dc00015901\
     040001000000000000000000000071000000000000010000620000007900ca01\
     6201320000000100007900ca933b00003d629998007901ca00629800002301",
    ),
    (
        "a train that begins with the identifier of a channel",
        "507ab84500b8b8b84581cfcfcfcf4605b892924605b8929a000005059a9a655208594d9a646565657a9a650505cf813cbc",
    ),
];

#[test]
fn what_fuzzing_found_breaks_no_node_any_more() {
    for (name, digits) in FOUND {
        println!("{name}");
        let bytes: Vec<u8> = (0..digits.len() / 2)
            .filter_map(|at| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok())
            .collect();
        assert_eq!(bytes.len() * 2, digits.len());
        check::endpoint_ops(&bytes);
    }
}

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
