//! Tickets: whatever is done to one, only the genuine one is honoured.

use p2ps::tracker::ticket::check;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn only_the_genuine_one_is_honoured(bytes in vec(any::<u8>(), 0..400)) {
        check::ticket(&bytes);
    }

    #[test]
    fn a_few_changes_are_noticed(cut in prop_oneof![Just(0), any::<u8>()], changes in vec(any::<u8>(), 0..7)) {
        check::ticket(&[&[cut], changes.as_slice()].concat());
    }
}
