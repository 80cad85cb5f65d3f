//! Delay from the source, hop by hop, and the upload that forwarding takes (the CS-P2P quality calculus).
//!
//! `latency(C) = t_C + latency(parent(C))`, zero at the source. `t_C` is the hop delay of the same packet: the stamp it
//! left us with minus the stamp it left the parent with. Without a common clock half the smoothed round trip time
//! stands in for it.

use std::time::Duration;

/// Cumulative latency: the parent's plus our own hop.
pub const fn cumulative(parent: Duration, hop: Duration) -> Duration {
    parent.saturating_add(hop)
}

/// Upload in use when a stream of known bit rate goes to `receivers`: `n · br`, in the unit of `rate`.
pub fn bandwidth_known(receivers: u64, rate: f64) -> f64 {
    receivers as f64 * rate
}

/// What was seen of one kind of packet, audio or video, over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Bits in one packet (`psa`, `psv`).
    pub packet_bits: f64,
    /// Packets a second (`pa/ta`, `pv/tv`).
    pub packets_per_second: f64,
}

/// Upload in use in bit/s, measured: `psa·n·pa/ta + psv·n·pv/tv`.
pub fn bandwidth_measured(receivers: u64, audio: Flow, video: Flow) -> f64 {
    let rate =
        audio.packet_bits * audio.packets_per_second + video.packet_bits * video.packets_per_second;
    bandwidth_known(receivers, rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn t_csp_1_cumulative_latency_and_bandwidth() {
        let mut latency = Duration::ZERO;
        let mut reported = Vec::new();
        for hop in [ms(20), ms(15), ms(25)] {
            latency = cumulative(latency, hop);
            reported.push(latency);
        }
        assert_eq!(reported, [ms(20), ms(35), ms(60)]);

        assert_eq!(bandwidth_known(2, 2e6), 4e6);
        let audio = Flow {
            packet_bits: 1280.0,
            packets_per_second: 50.0,
        };
        let video = Flow {
            packet_bits: 9600.0,
            packets_per_second: 100.0,
        };
        assert_eq!(bandwidth_measured(2, audio, video), 2.048e6);
    }

    #[test]
    fn nobody_to_serve_takes_no_upload() {
        assert_eq!(bandwidth_known(0, 8e6), 0.0);
        assert_eq!(bandwidth_measured(0, Flow::default(), Flow::default()), 0.0);
    }
}
