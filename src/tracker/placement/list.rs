//! Everybody is told of those with free slots, nearest to the source first: the registry's standing order.

use std::sync::Arc;

use super::{PeerNo, Placed, Placement, Refused};
use crate::time::Instant;

/// The policy of a tracker that only keeps a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed;

impl Placement for Listed {
    fn place(
        &mut self,
        _now: Instant,
        _swarm: &Arc<str>,
        _asker: PeerNo,
    ) -> Result<Placed, Refused> {
        Ok(Placed::Listed)
    }
}
