//! Writes requests and responses in the form of the schema of RFC 7846.

use bytes::Bytes;
use serde::Serialize;

use super::ext::write_base64;
use super::{
    Body, ErrorCode, PeerAddr, PeerInfo, PeerNum, Request, RequestExt, Response, ResponseExt, Stat,
    SwarmAction, VERSION,
};

/// Everything under one member, as both directions want it (RFC 7846 §3.2.1).
#[derive(Serialize)]
struct Envelope<T> {
    #[serde(rename = "PPSPTrackerProtocol")]
    protocol: T,
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("string keys and integers only")
}

impl Request {
    /// Writes the request in the form of the schema.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire<'a> {
            version: u64,
            request_type: &'static str,
            transaction_id: &'a str,
            peer_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            connect: Option<WireConnect<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            find: Option<WireFind<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            stat_report: Option<WireReport<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            x_ext: Option<&'a RequestExt>,
        }
        #[derive(Serialize)]
        struct WireConnect<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_num: Option<&'a PeerNum>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            peer_addr: &'a [PeerAddr],
            swarm_action: &'a [SwarmAction],
        }
        #[derive(Serialize)]
        struct WireFind<'a> {
            swarm_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_num: Option<&'a PeerNum>,
        }
        #[derive(Serialize)]
        struct WireReport<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            stat: &'a [Stat],
        }
        let mut wire = Wire {
            version: VERSION,
            request_type: "",
            transaction_id: &self.transaction_id,
            peer_id: &self.peer_id,
            connect: None,
            find: None,
            stat_report: None,
            x_ext: self.ext.as_ref(),
        };
        match &self.body {
            Body::Connect(connect) => {
                wire.request_type = "CONNECT";
                wire.connect = Some(WireConnect {
                    peer_num: connect.peer_num.as_ref(),
                    peer_addr: &connect.peer_addr,
                    swarm_action: &connect.swarm_action,
                });
            }
            Body::Find(find) => {
                wire.request_type = "FIND";
                wire.find = Some(WireFind {
                    swarm_id: &find.swarm_id,
                    peer_num: find.peer_num.as_ref(),
                });
            }
            Body::StatReport(stat) => {
                wire.request_type = "STAT_REPORT";
                // RFC 7846 §4.1.3: a sign of life has no statistics at all, and an array of none is not allowed.
                wire.stat_report = (!stat.is_empty()).then_some(WireReport {
                    kind: "STREAM_STATS",
                    stat,
                });
            }
        }
        to_json(&Envelope { protocol: wire })
    }
}

impl Response {
    /// Writes the response in the form of the schema.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wire<'a> {
            version: u64,
            response_type: u8,
            error_code: u8,
            transaction_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_addr: Option<&'a PeerAddr>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            swarm_result: Vec<WireResult<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            x_p2ps_report_interval: Option<u64>,
            #[serde(
                skip_serializing_if = "Option::is_none",
                serialize_with = "write_base64"
            )]
            x_p2ps_cert: &'a Option<Bytes>,
            #[serde(skip_serializing_if = "Option::is_none")]
            x_ext: Option<&'a ResponseExt>,
        }
        #[derive(Serialize)]
        struct WireResult<'a> {
            swarm_id: &'a str,
            result: u8,
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_group: Option<WireGroup<'a>>,
        }
        #[derive(Serialize)]
        struct WireGroup<'a> {
            peer_info: &'a [PeerInfo],
        }
        to_json(&Envelope {
            protocol: Wire {
                version: VERSION,
                response_type: u8::from(self.error_code != ErrorCode::None),
                error_code: self.error_code.code(),
                transaction_id: &self.transaction_id,
                peer_addr: self.peer_addr.as_ref(),
                swarm_result: self
                    .swarm_result
                    .iter()
                    .map(|result| WireResult {
                        swarm_id: &result.swarm_id,
                        result: u8::from(!result.is_ok),
                        peer_group: result
                            .peer_group
                            .as_deref()
                            .map(|peer_info| WireGroup { peer_info }),
                    })
                    .collect(),
                x_p2ps_report_interval: self.report_interval_s,
                x_p2ps_cert: &self.certificate,
                x_ext: self.ext.as_ref(),
            },
        })
    }
}
