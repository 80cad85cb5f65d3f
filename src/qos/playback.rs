//! Was the chunk there when it was due: continuity of one viewer.
//!
//! Continuity is chunks present at their playback deadline divided by chunks due. Empty chunks (numbers the source
//! never filled) are not due.

/// `present / due`, or nothing when nothing was due.
pub fn continuity(present: u64, due: u64) -> Option<f64> {
    (due > 0).then(|| present.min(due) as f64 / due as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuity_is_present_over_due() {
        assert_eq!(continuity(0, 0), None);
        assert_eq!(continuity(980, 1000), Some(0.98));
        assert_eq!(continuity(1001, 1000), Some(1.0));
    }
}
