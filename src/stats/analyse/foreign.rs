//! Statistics of other tools under our names, so that testers can compare: SRT (JSON and CSV), librist JSON, and
//! iperf3 `--json-stream`.

use serde_json::{Map, Value};

use crate::stats::analyse::read::Sample;
use crate::stats::timestamp::Timestamp;

/// Names in SRT's JSON (a pointer) and ours.
const SRT_JSON: [(&str, &str); 11] = [
    ("/recv/packets", "recv_packets"),
    ("/recv/packetsLost", "lost_packets"),
    ("/recv/packetsRetransmitted", "repaired_packets"),
    ("/recv/packetsBelated", "dropped_late_packets"),
    ("/recv/bytes", "recv_bytes"),
    ("/recv/mbitRate", "recv_mbps"),
    ("/send/packets", "sent_packets"),
    ("/send/packetsRetransmitted", "retransmitted_packets"),
    ("/send/bytes", "sent_bytes"),
    ("/send/mbitRate", "sent_mbps"),
    ("/link/rtt", "rtt_ms"),
];

/// Columns of SRT's CSV and our names.
const SRT_CSV: [(&str, &str); 12] = [
    ("pktRecv", "recv_packets"),
    ("pktRcvLoss", "lost_packets"),
    ("pktRcvRetrans", "repaired_packets"),
    ("pktRcvBelated", "dropped_late_packets"),
    ("byteRecv", "recv_bytes"),
    ("mbpsRecvRate", "recv_mbps"),
    ("pktSent", "sent_packets"),
    ("pktRetrans", "retransmitted_packets"),
    ("byteSent", "sent_bytes"),
    ("mbpsSendRate", "sent_mbps"),
    ("msRTT", "rtt_ms"),
    ("msRcvBuf", "buffer_ms"),
];

/// Names in librist's receiver statistics and ours. `missing` is what repair was asked for, `lost` what it did not
/// bring.
const RIST_RECEIVER: [(&str, &str); 5] = [
    ("/stats/received", "recv_packets"),
    ("/stats/missing", "lost_packets"),
    ("/stats/recovered_total", "repaired_packets"),
    ("/stats/dropped_late", "dropped_late_packets"),
    ("/stats/duplicates", "duplicate_packets"),
];

/// Names in librist's sender statistics and ours.
const RIST_SENDER: [(&str, &str); 3] = [
    ("/stats/sent", "sent_packets"),
    ("/stats/retransmitted", "retransmitted_packets"),
    ("/stats/rtt", "rtt_ms"),
];

/// A record of another tool, or nothing when it is not one that we know.
pub(super) fn adapt(fields: &Map<String, Value>) -> Option<Result<Sample, String>> {
    if fields.contains_key("sid") && fields.contains_key("link") {
        return Some(Ok(srt(&Value::Object(fields.clone()))));
    }
    if let Some(receiver) = fields.get("receiver-stats") {
        return Some(Ok(rist_receiver(receiver)));
    }
    if let Some(sender) = fields.get("sender-stats") {
        let peer = sender.get("peer").unwrap_or(sender);
        return Some(Ok(named(
            "librist",
            peer.get("id"),
            pick(peer, &RIST_SENDER),
        )));
    }
    // Our own `interval` has no object called data.
    let data = fields.get("data").filter(|data| data.is_object())?;
    Some(Ok(iperf3(
        fields
            .get("event")
            .and_then(Value::as_str)
            .unwrap_or_default(),
        data,
    )))
}

fn srt(record: &Value) -> Sample {
    let mut sample = named("srt", record.get("sid"), pick(record, &SRT_JSON));
    sample.up_ms = record.get("time").and_then(Value::as_f64);
    sample.ts = record
        .get("timepoint")
        .and_then(Value::as_str)
        .and_then(Timestamp::parse);
    sample
}

fn rist_receiver(receiver: &Value) -> Sample {
    let flow = receiver.get("flowinstant").unwrap_or(receiver);
    let mut fields = pick(flow, &RIST_RECEIVER);
    if let Some(rtt) = flow
        .pointer("/peers/0/stats/rtt")
        .filter(|rtt| rtt.is_number())
    {
        fields.insert("rtt_ms".into(), rtt.clone());
    }
    if let Some(bps) = flow.pointer("/stats/bitrate").and_then(Value::as_f64) {
        fields.insert("recv_mbps".into(), (bps / 1e6).into());
    }
    named("librist", flow.get("flow_id"), fields)
}

fn iperf3(event: &str, data: &Value) -> Sample {
    let mut fields = Map::new();
    let mut up_ms = None;
    if let Some(sum) = data.get("sum").filter(|_| event == "interval") {
        let number = |name| sum.get(name).and_then(Value::as_f64);
        up_ms = number("end").map(|seconds| seconds * 1000.0);
        let rate = if sum.get("sender") == Some(&Value::Bool(true)) {
            "sent_mbps"
        } else {
            "recv_mbps"
        };
        let received = number("packets")
            .zip(number("lost_packets"))
            .map(|(packets, lost)| packets - lost);
        for (name, value) in [
            (rate, number("bits_per_second").map(|bps| bps / 1e6)),
            (
                "interval_ms",
                number("seconds").map(|seconds| seconds * 1000.0),
            ),
            ("jitter_ms", number("jitter_ms")),
            ("lost_packets", number("lost_packets")),
            ("recv_packets", received),
        ] {
            if let Some(value) = value {
                fields.insert(name.into(), value.into());
            }
        }
    }
    let mut sample = named("iperf3", None, fields);
    sample.event = event.into();
    sample.up_ms = up_ms;
    sample
}

/// The numbers of `record` that `names` lists.
fn pick(record: &Value, names: &[(&str, &str)]) -> Map<String, Value> {
    let numbers = names.iter().filter_map(|(pointer, name)| {
        let value = record.pointer(pointer).filter(|value| value.is_number())?;
        Some(((*name).to_owned(), value.clone()))
    });
    numbers.collect()
}

fn named(tool: &str, id: Option<&Value>, fields: Map<String, Value>) -> Sample {
    let node = match id {
        Some(Value::String(text)) => text.chars().take(64).collect(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".into(),
    };
    let mut sample = Sample {
        event: "interval".into(),
        tool: tool.into(),
        node,
        channel: "-".into(),
        fields,
        ..Sample::default()
    };
    if let Some((lost, expected)) = sample.loss().filter(|(_, expected)| *expected > 0.0) {
        sample
            .fields
            .insert("loss_ratio".into(), (lost / expected).into());
    }
    sample
}

/// The columns of SRT's CSV, from its header line.
#[derive(Debug)]
pub(super) struct Csv {
    columns: Vec<String>,
}

impl Csv {
    /// Columns that are looked at.
    const COLUMNS_MAX: usize = 256;

    /// The header line begins with `Time,` or `Timepoint,` and names the socket.
    pub(super) fn header(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        if !text.starts_with("Time") || !text.split(',').any(|name| name.trim() == "SocketID") {
            return None;
        }
        let columns = text
            .split(',')
            .take(Self::COLUMNS_MAX)
            .map(|name| name.trim().to_owned());
        Some(Self {
            columns: columns.collect(),
        })
    }

    /// One line under that header.
    pub(super) fn sample(&self, line: &[u8]) -> Result<Sample, String> {
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
        let cells: Vec<&str> = text
            .split(',')
            .take(Self::COLUMNS_MAX)
            .map(str::trim)
            .collect();
        if cells.len() < self.columns.len() {
            return Err(format!(
                "{} columns, the header has {}",
                cells.len(),
                self.columns.len()
            ));
        }
        let cell = |name: &str| {
            let column = self.columns.iter().position(|column| column == name)?;
            cells.get(column).copied()
        };
        let mut fields = Map::new();
        for (column, name) in SRT_CSV {
            if let Some(value) = cell(column)
                .and_then(|text| text.parse::<f64>().ok())
                .filter(|value| value.is_finite())
            {
                fields.insert(name.into(), value.into());
            }
        }
        let id = cell("SocketID").map(Value::from);
        let mut sample = named("srt", id.as_ref(), fields);
        sample.ts = cell("Timepoint").and_then(Timestamp::parse);
        sample.up_ms = cell("Time").and_then(|text| text.parse().ok());
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use crate::stats::analyse::read::{Reader, Sample};

    fn samples(text: &str) -> Vec<Sample> {
        let mut reader = Reader::new(text.as_bytes());
        let mut found = Vec::new();
        while let Some(sample) = reader.next_sample().expect("memory does not fail") {
            found.push(sample.expect("a record"));
        }
        found
    }

    #[track_caller]
    fn has(sample: &Sample, expected: &[(&str, f64)]) {
        for (name, value) in expected {
            assert_eq!(sample.number(name), Some(*value), "{name}");
        }
    }

    #[test]
    fn srt_json() {
        let line = r#"{"sid":7,"timepoint":"2026-11-21T13:00:00.500000+0100","time":1000,"window":{"flow":1},"link":{"rtt":40.1,"bandwidth":90.0},"send":{"packets":0,"bytes":0,"mbitRate":0.0},"recv":{"packets":99,"packetsLost":2,"packetsRetransmitted":1,"packetsBelated":0,"bytes":134000,"mbitRate":1.07}}"#;
        let found = samples(line);
        has(
            &found[0],
            &[
                ("rtt_ms", 40.1),
                ("recv_packets", 99.0),
                ("loss_ratio", 0.02),
                ("recv_mbps", 1.07),
            ],
        );
        assert_eq!(
            (found[0].tool.as_str(), found[0].node.as_str()),
            ("srt", "7")
        );
        assert_eq!(found[0].moment_us(), Some(1_795_262_400_500_000));
    }

    #[test]
    fn srt_csv() {
        let text = "Time,SocketID,msRTT,pktRecv,pktRcvLoss,mbpsRecvRate\n1000,7,40.5,98,2,1.07\n2000,7,nan,100,0,1.1\n";
        let found = samples(text);
        has(
            &found[0],
            &[("rtt_ms", 40.5), ("loss_ratio", 0.02), ("recv_mbps", 1.07)],
        );
        assert_eq!(found[1].number("rtt_ms"), None);
        assert_eq!(found[1].moment_us(), Some(2_000_000));
    }

    #[test]
    fn librist_json() {
        let receiver = r#"{"receiver-stats":{"flowinstant":{"flow_id":12,"dead":0,"stats":{"quality":100,"received":100,"missing":4,"recovered_total":4,"lost":0,"duplicates":0,"bitrate":8000000},"peers":[{"id":1,"stats":{"rtt":41}}]}}}"#;
        let sender =
            r#"{"sender-stats":{"peer":{"id":3,"stats":{"sent":500,"retransmitted":4,"rtt":20}}}}"#;
        let found = samples(&format!("{receiver}\n{sender}\n"));
        has(
            &found[0],
            &[("loss_ratio", 0.04), ("rtt_ms", 41.0), ("recv_mbps", 8.0)],
        );
        has(
            &found[1],
            &[
                ("sent_packets", 500.0),
                ("retransmitted_packets", 4.0),
                ("rtt_ms", 20.0),
            ],
        );
    }

    #[test]
    fn iperf3_stream() {
        let text = r#"{"event":"start","data":{"version":"iperf 3.18"}}
{"event":"interval","data":{"streams":[],"sum":{"start":0,"end":1.0,"seconds":1.0,"bits_per_second":8e6,"jitter_ms":0.05,"lost_packets":1,"packets":100,"sender":false}}}
{"event":"end","data":{}}"#;
        let found = samples(text);
        has(
            &found[1],
            &[
                ("jitter_ms", 0.05),
                ("loss_ratio", 0.01),
                ("recv_mbps", 8.0),
                ("interval_ms", 1000.0),
            ],
        );
        assert_eq!(found[2].event, "end");
    }
}
