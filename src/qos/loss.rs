//! Packets that did not come, as a ratio.
//!
//! Lost means noticed missing, before repair, as in the fraction lost of RTCP (RFC 3550 §6.4.1). What is still
//! missing when it is due is counted by [`crate::qos::playback`].

/// `lost / (received + lost)`, or nothing when nothing was expected.
pub fn ratio(received: u64, lost: u64) -> Option<f64> {
    let expected = received.saturating_add(lost);
    (expected > 0).then(|| lost as f64 / expected as f64)
}

/// The same in thousandths, rounded to the nearest, as STATUS carries it; 0 when nothing was expected.
pub fn permille(received: u64, lost: u64) -> u16 {
    // At most 1000 by construction.
    ratio(received, lost).map_or(0, |ratio| (ratio * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios() {
        for (received, lost, expected, thousandths) in [
            (0, 0, None, 0),
            (100, 0, Some(0.0), 0),
            (98, 2, Some(0.02), 20),
            (0, 7, Some(1.0), 1000),
            (1999, 1, Some(0.0005), 1),
        ] {
            assert_eq!(ratio(received, lost), expected);
            assert_eq!(permille(received, lost), thousandths);
        }
    }
}
