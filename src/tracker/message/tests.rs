//! Golden pairs of the protocol reference, and every other form that is read.

use serde_json::Value;

use super::*;
use crate::ids::PeerKey;
use crate::seal::{EpochId, EpochKey};
use crate::tracker::ticket::Revocation;

const SOURCE_SWARM: &str = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("the golden text is JSON")
}

fn request(text: &str) -> Request {
    Request::from_json(text.as_bytes()).expect(text)
}

/// Reading a golden request and writing it gives the same request again.
fn round_trip(text: &str) -> Request {
    let request = request(text);
    assert_eq!(parsed(&request.to_json()), parsed(text));
    request
}

fn response_round_trip(text: &str) -> Response {
    let response = Response::from_json(text.as_bytes()).expect(text);
    assert_eq!(parsed(&response.to_json()), parsed(text));
    response
}

const SEEDER_JOIN: &str = r#"{"PPSPTrackerProtocol":{
  "version":1,"request_type":"CONNECT","transaction_id":"7f3a-1",
  "peer_id":"0b6cdd0e-57a4-4c0e-9a53-0d7f6d0a9b11",
  "connect":{
    "peer_addr":[{"ip_address":{"address_type":"ipv4","address":"198.51.100.7"},
                  "port":6778,"priority":1,"type":"HOST","peer_protocol":"PPSP-PP"}],
    "swarm_action":[{"swarm_id":"0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e",
                     "action":"JOIN","peer_mode":"SEEDER"}]}}}"#;

const SWITCH: &str = r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"CONNECT","transaction_id":"c2-9","peer_id":"peer-b",
  "connect":{
    "peer_num":{"peer_count":5,"ability_nat":"STUN","concurrent_links":4,"online_time":200,"upload_bandwidth":6000},
    "peer_addr":[{"ip_address":{"address_type":"ipv6","address":"2001:db8::2"},"port":40001,"priority":2,"type":"HOST"},
                 {"ip_address":{"address_type":"ipv4","address":"203.0.113.5"},"port":51234,"priority":1,"type":"REFLEXIVE"}],
    "swarm_action":[{"swarm_id":"1111","action":"LEAVE","peer_mode":"LEECH"},
                    {"swarm_id":"2222","action":"JOIN","peer_mode":"LEECH"}]}}}"#;

#[test]
fn golden_connect_of_a_seeder() {
    let request = round_trip(SEEDER_JOIN);
    assert_eq!(request.transaction_id, "7f3a-1");
    let Body::Connect(connect) = request.body else {
        panic!("CONNECT")
    };
    assert_eq!(connect.peer_addr[0].port, 6778);
    assert_eq!(connect.peer_addr[0].kind, AddressKind::Host);
    assert_eq!(
        connect.swarm_action,
        [SwarmAction {
            swarm_id: SOURCE_SWARM.to_owned(),
            action: Action::Join,
            peer_mode: PeerMode::Seeder
        }]
    );
}

#[test]
fn golden_connect_of_a_viewer_who_switches() {
    let Body::Connect(connect) = round_trip(SWITCH).body else {
        panic!("CONNECT")
    };
    assert_eq!(connect.peer_num.as_ref().map(|num| num.peer_count), Some(5));
    assert_eq!(connect.swarm_action[0].action, Action::Leave);
    assert_eq!(connect.swarm_action[1].action, Action::Join);
}

#[test]
fn golden_find_and_stat_report() {
    let find = round_trip(
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"FIND","transaction_id":"c2-10","peer_id":"peer-b",
          "find":{"swarm_id":"2222","peer_num":{"peer_count":10}}}}"#,
    );
    assert_eq!(
        find.body,
        Body::Find(Find {
            swarm_id: "2222".to_owned(),
            peer_num: Some(PeerNum::count(10))
        })
    );
    let report = round_trip(
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"STAT_REPORT","transaction_id":"c2-11","peer_id":"peer-b",
          "stat_report":{"type":"STREAM_STATS","stat":[{"swarm_id":"2222","uploaded_bytes":512000,
          "downloaded_bytes":7680000,"available_bandwidth":1024000,"concurrent_links":5}]}}}"#,
    );
    let Body::StatReport(stat) = report.body else {
        panic!("STAT_REPORT")
    };
    assert_eq!(stat[0].downloaded_bytes, 7_680_000);
    // RFC 7846 §4.1.3: a report without statistics is a sign of life.
    assert_eq!(
        round_trip(
            r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"STAT_REPORT","transaction_id":"k","peer_id":"p"}}"#
        )
        .body,
        Body::StatReport(Vec::new())
    );
}

#[test]
fn golden_responses() {
    let bare = response_round_trip(
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"c2-11",
          "swarm_result":[{"swarm_id":"2222","result":0}]}}"#,
    );
    assert!(bare.swarm_result[0].is_ok);
    let listed = response_round_trip(
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"c2-9",
          "peer_addr":{"ip_address":{"address_type":"ipv4","address":"203.0.113.5"},"port":40882,"priority":1,"type":"REFLEXIVE"},
          "swarm_result":[
            {"swarm_id":"1111","result":0},
            {"swarm_id":"2222","result":0,"peer_group":{"peer_info":[
              {"peer_id":"peer-a","peer_addr":{"ip_address":{"address_type":"ipv4","address":"198.51.100.7"},
                "port":6778,"priority":1,"type":"HOST","peer_protocol":"PPSP-PP"}}]}}]}}"#,
    );
    let peers = listed.swarm_result[1]
        .peer_group
        .as_deref()
        .expect("a list");
    assert_eq!(peers[0].peer_id, "peer-a");
    let failed = response_round_trip(
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":1,"error_code":3,"transaction_id":"c2-11"}}"#,
    );
    assert_eq!(failed.error_code, ErrorCode::ForbiddenAction);
}

#[test]
fn our_own_members_come_back_as_they_went() {
    let request = Request {
        transaction_id: "1".to_owned(),
        peer_id: "00112233445566ff".to_owned(),
        body: Body::StatReport(Vec::new()),
        ext: Some(RequestExt {
            role: Some(Role::Relay),
            channel: Some("film".to_owned()),
            title: Some("Nordlicht – live".to_owned()),
            description: Some(Bytes::from_static(b"\x00\x01signed\xff")),
            port: Some(7850),
            uplink_kbps: Some(20_000),
            slots_free: Some(3),
            depth: Some(2),
            parent: Some("aa".to_owned()),
            parents: ["aa", "bb"]
                .map(|peer| Feed {
                    peer: peer.to_owned(),
                    mask: if peer == "aa" { 0b0111 } else { 0b1000 },
                })
                .into(),
            kbps: Some(8000),
            latency_us: Some(1500),
            certify: true,
            cluster: Some("east".to_owned()),
            capacity_kbps: Some(100_000),
            loss: Some(Decimal::from_millionths(12_500)),
            buffer_s: Some(Decimal::from_millionths(1_500_000)),
            access: AccessRequest {
                key: Some(PeerKey::from_bytes([0xab; 32])),
                token: Secret::new("s3cret"),
                ticket: Some(Bytes::from_static(b"ticket")),
                renew: true,
                seal: true,
                epoch: EpochId::new((1 << 48) - 1),
            },
            ..RequestExt::default()
        }),
    };
    assert_eq!(
        Request::from_json(request.to_json().as_bytes()),
        Ok(request)
    );

    let mut response = Response::success("1".to_owned());
    response.report_interval_s = Some(10);
    response.certificate = Some(Bytes::from(vec![0x30; 400]));
    response.ext = Some(ResponseExt {
        grant: None,
        parents: vec![Parent {
            peer: "aa".to_owned(),
            addr: "[2001:db8::1]:7850".parse().expect("an address"),
            mask: Some(0xff),
            depth: Some(1),
            slots_free: Some(4),
            role: Some(Role::Source),
        }],
        channel: Some(ChannelInfo {
            name: "film".to_owned(),
            swarm_id: SOURCE_SWARM.to_owned(),
            title: None,
            description: Some(Bytes::from_static(b"d")),
        }),
        reject: Some(Reject {
            code: RejectCode::NameTaken,
            text: "name taken".to_owned(),
            retry_s: 10,
        }),
        redirect: Some(Redirect {
            cluster: "west".to_owned(),
            server: "bb".to_owned(),
            reason: "no bandwidth in cluster east".to_owned(),
        }),
        move_to: Some(Parent {
            peer: "cc".to_owned(),
            addr: "192.0.2.1:7850".parse().expect("an address"),
            mask: None,
            depth: None,
            slots_free: None,
            role: None,
        }),
        cluster: Some("east".to_owned()),
        access: AccessResponse {
            auth: Some(ChannelAuth {
                issuers: vec![PeerKey::from_bytes([1; 32])],
                closed: true,
            }),
            user_ticket: Some(Bytes::from_static(b"user")),
            channel_ticket: Some(Bytes::from(vec![7; 1180])),
            revoked: vec![Revocation {
                user: "anna".to_owned(),
                at: 1_795_262_400,
            }],
            seal: Some(SealKeys {
                seal_with: EpochId::new(5),
                keys: vec![
                    (EpochId::at(5, 0), EpochKey::from_bytes([1; 32])),
                    (EpochId::at(6, 7), EpochKey::from_bytes([2; 32])),
                ],
            }),
        },
    });
    assert_eq!(
        Response::from_json(response.to_json().as_bytes()),
        Ok(response)
    );
}

/// Whom a peer gets which substreams from, and whom it is to get them from.
#[test]
fn golden_masks_of_parents() {
    let several = round_trip(
        r#"{"PPSPTrackerProtocol":{"version":1,"request_type":"STAT_REPORT","transaction_id":"r","peer_id":"p","x_ext":
          {"v":1,"depth":3,"parent":"a","parents":[{"peer":"a","mask":13},{"peer":"b","mask":2}]}}}"#,
    );
    let parents = several.ext.map(|ext| ext.parents).unwrap_or_default();
    let masks: Vec<(&str, u32)> = parents.iter().map(|at| (&*at.peer, at.mask)).collect();
    assert_eq!(masks, [("a", 0b1101), ("b", 0b0010)]);
    let told = response_round_trip(
        r#"{"PPSPTrackerProtocol":{"version":1,"response_type":0,"error_code":0,"transaction_id":"r",
          "swarm_result":[{"swarm_id":"2222","result":0}],"x_ext":{"parents":[
          {"peer":"a","addr":"192.0.2.1:7850","mask":13,"depth":2,"slots_free":1,"role":"peer"},
          {"peer":"b","addr":"192.0.2.2:7850","mask":2},{"peer":"s","addr":"192.0.2.3:7850","role":"relay"}]}}}"#,
    );
    let parents = told.ext.map(|ext| ext.parents).unwrap_or_default();
    let masks: Vec<Option<u32>> = parents.iter().map(|parent| parent.mask).collect();
    assert_eq!(masks, [Some(0b1101), Some(0b0010), None]);
}

#[test]
fn masks_are_of_eight_substreams_and_parents_are_eight() {
    for (text, mask) in [
        ("1", Some(1)),
        ("255", Some(255)),
        (r#""6""#, Some(6)),
        ("0", None),
        ("256", None),
        ("4294967297", None),
        ("-1", None),
        ("1.5", None),
        ("null", None),
        ("[1]", None),
    ] {
        let body = format!(
            r#"{{"PPSPTrackerProtocol":{{"version":1,"error_code":0,"x_ext":{{"parents":[{{"peer":"a","addr":"192.0.2.1:7","mask":{text}}}]}}}}}}"#
        );
        let told = Response::from_json(body.as_bytes()).expect("a response");
        let parents = told.ext.map(|ext| ext.parents).unwrap_or_default();
        assert_eq!(
            parents[0].mask, mask,
            "{text}: the parent counts all the same"
        );
        let body = format!(
            r#"{{"PPSPTrackerProtocol":{{"version":1,"request_type":"STAT_REPORT","transaction_id":"t","peer_id":"p",
              "x_ext":{{"parents":[{{"peer":"a","mask":{text}}},{{"peer":"b","mask":1}},{{"mask":1}},7]}}}}}}"#
        );
        let parents = request(&body)
            .ext
            .map(|ext| ext.parents)
            .unwrap_or_default();
        let masks: Vec<u32> = parents.iter().map(|parent| parent.mask).collect();
        let expected: Vec<u32> = mask.into_iter().chain([1]).collect();
        assert_eq!(masks, expected, "{text}: no parent at all");
    }
    let many = vec![r#"{"peer":"a","mask":1}"#; 1000].join(",");
    let body = format!(
        r#"{{"PPSPTrackerProtocol":{{"version":1,"request_type":"STAT_REPORT","transaction_id":"t","peer_id":"p","x_ext":{{"parents":[{many}]}}}}}}"#
    );
    let parents = request(&body).ext.map(|ext| ext.parents);
    assert_eq!(parents.map(|parents| parents.len()), Some(8));
}

/// Each row: a form seen in the RFC's examples or in the field, and the schema form that it means.
#[test]
fn every_liberal_form_is_read() {
    let connect = |rest: &str| {
        format!(
            r#"{{"PPSPTrackerProtocol":{{"version":1,"request_type":"CONNECT","transaction_id":"t","peer_id":"p",{rest}}}}}"#
        )
    };
    let action = r#"{"swarm_id":"1","action":"JOIN","peer_mode":"LEECH"}"#;
    let address = r#"{"ip_address":{"address_type":"ipv4","address":"192.0.2.1"},"port":7,"priority":1,"type":"HOST"}"#;
    let schema = request(&connect(&format!(
        r#""connect":{{"peer_addr":[{address}],"peer_num":{{"peer_count":5,"concurrent_links":5}},"swarm_action":[{action}]}}"#
    )));
    for body in [
        // Single objects, members directly under the envelope, integers as strings, peer_number, other letter case.
        format!(
            r#""connect":{{"peer_addr":{address},"peer_num":{{"peer_count":5,"concurrent_links":5}},"swarm_action":{action}}}"#
        ),
        format!(
            r#""connect":{{"peer_addr":{address},"swarm_action":{action}}},"peer_num":{{"peer_count":"5","concurrent_links":"5"}}"#
        ),
        format!(
            r#""connect":{{"peer_addr":[{address}],"peer_number":{{"peer_count":5,"concurrent_links":"5"}},"swarm_action":[{action}]}},"unknown":{{"a":[]}}"#
        ),
        format!(
            r#""peer_addr":[{}],"peer_num":{{"peer_count":5,"concurrent_links":5,"online_time":"NORMAL","upload_bandwidth_level":"NORMAL"}},"swarm_action":[{action}]"#,
            address
                .replace("ipv4", "Ipv4")
                .replace(r#","type":"HOST""#, "")
        ),
    ] {
        assert_eq!(request(&connect(&body)), schema, "{body}");
    }

    let find = |rest: &str| {
        request(&format!(
            r#"{{"PPSPTrackerProtocol":{{"version":"1","request_type":"FIND","transaction_id":7,"peer_id":"p",{rest}}}}}"#
        ))
        .body
    };
    assert_eq!(
        find(r#""swarm_id":"2","peer_num":{"peer_count":3}"#),
        find(r#""find":{"swarm_id":"2","peer_num":{"peer_count":3}}"#)
    );

    let report = |rest: &str| {
        request(&format!(
            r#"{{"PPSPTrackerProtocol":{{"version":1,"request_type":"STAT_REPORT","transaction_id":"t","peer_id":"p",{rest}}}}}"#
        ))
        .body
    };
    let stat = r#"{"swarm_id":"2","uploaded_bytes":1,"downloaded_bytes":"2","available_bandwidth":3,"concurrent_links":"5"}"#;
    let schema = report(&format!(
        r#""stat_report":{{"type":"STREAM_STATS","stat":[{stat}]}}"#
    ));
    assert_eq!(
        report(&format!(
            r#""stat_report":{{"type":"STREAM_STATS","Stat":{stat}}}"#
        )),
        schema
    );
    assert_eq!(
        report(&format!(r#""stat_report":{{"stat":{stat}}}"#)),
        schema
    );

    let response = Response::from_json(
        br#"{"PPSPTrackerProtocol":{"version":1,"response_type":"0","error_code":"00","transaction_id":"t",
          "peer_addr":{"ip_address":{"address_type":"ipv4","address":"203.0.113.5"},"port":"40882","priority":1},
          "swarm_result":{"swarm_id":"2222","result":"0","peer_group":{"peer_info":
            {"peer_id":"a","peer_addr":{"ip_address":{"address_type":"ipv4","address":"192.0.2.9"},"port":7}}}}}}"#,
    )
    .expect("liberal");
    assert_eq!(response.error_code, ErrorCode::None);
    assert_eq!(response.peer_addr.map(|address| address.port), Some(40_882));
    assert_eq!(
        response.swarm_result[0]
            .peer_group
            .as_deref()
            .map(<[_]>::len),
        Some(1)
    );
}

#[test]
fn malformed_requests_keep_their_transaction_and_name_the_member() {
    let envelope =
        |rest: &str| format!(r#"{{"PPSPTrackerProtocol":{{"transaction_id":"t9",{rest}}}}}"#);
    let long = "x".repeat(10_240);
    let find = r#""version":1,"request_type":"FIND","peer_id":"p","find":{"swarm_id":"s"}"#;
    for (rest, code, why) in [
        (
            find.replace("1", "2"),
            RejectCode::Version,
            "version: 2, this tracker speaks 1",
        ),
        (
            find.replace("\"version\":1,", ""),
            RejectCode::BadRequest,
            "version: missing or no number",
        ),
        (
            find.replace("FIND", "find"),
            RejectCode::BadRequest,
            "request_type: need CONNECT, FIND or STAT_REPORT",
        ),
        (
            find.replace("\"p\"", "\"\""),
            RejectCode::BadRequest,
            "peer_id: need 1 to 256 printable characters",
        ),
        (
            find.replace("\"p\"", "\"a\\u001bb\""),
            RejectCode::BadRequest,
            "peer_id: need 1 to 256 printable characters",
        ),
        (
            find.replace("\"p\"", &format!("\"{long}\"")),
            RejectCode::BadRequest,
            "peer_id: 10240 bytes, limit 256",
        ),
        (
            find.replace("\"s\"", "null"),
            RejectCode::BadRequest,
            "swarm_id: missing or no string",
        ),
        (
            format!("{find},\"version\":1"),
            RejectCode::BadRequest,
            "version: member twice",
        ),
        (
            find.replace("FIND", "CONNECT"),
            RejectCode::BadRequest,
            "swarm_action: missing or empty",
        ),
        // S-42: nothing but an error.
        (
            format!(r#"{find},"x_ext":{{"channel":"\u001b]0;x\u0007../../etc"}}"#),
            RejectCode::BadRequest,
            "channel: need 1 to 64 of A-Z a-z 0-9 . _ -",
        ),
        (
            format!(r#"{find},"x_ext":{{"title":"a\u0007"}}"#),
            RejectCode::BadRequest,
            "title: control characters",
        ),
        (
            format!(r#"{find},"x_ext":{{"description":"*"}}"#),
            RejectCode::BadRequest,
            "description: not base64",
        ),
    ] {
        assert_eq!(
            Request::from_json(envelope(&rest).as_bytes()),
            Err(RequestError::Malformed {
                transaction_id: "t9".to_owned(),
                code,
                why: why.to_owned()
            }),
            "{rest}"
        );
    }
    assert!(
        matches!(Request::from_json(b"[]"), Err(RequestError::Malformed { transaction_id, .. }) if transaction_id.is_empty())
    );
    assert!(matches!(
        Request::from_json(b"<html>"),
        Err(RequestError::NotJson(_))
    ));
    // An action that no RFC defines is a forbidden action (code 3), not a malformed message.
    let Body::Connect(connect) = request(&SWITCH.replace("LEAVE", "PAUSE")).body else {
        panic!("CONNECT")
    };
    assert_eq!(connect.swarm_action[0].action, Action::Unknown);
}

#[test]
fn bad_responses_say_why() {
    for (body, why) in [
        (
            r#"{"error":"request body over 65536 bytes"}"#,
            "request body over 65536 bytes",
        ),
        (
            r#"{"PPSPTrackerProtocol":{"version":2,"error_code":0}}"#,
            "version: 2, need 1",
        ),
        (
            r#"{"PPSPTrackerProtocol":{"version":1,"error_code":7}}"#,
            "error_code: missing or not 0 to 6",
        ),
        (
            r#"{"PPSPTrackerProtocol":{"version":1,"response_type":1,"error_code":0}}"#,
            "response_type: failed, without an error code",
        ),
    ] {
        assert_eq!(
            Response::from_json(body.as_bytes()),
            Err(ResponseError(why.to_owned()))
        );
    }
}

#[test]
fn channel_names_are_few_characters() {
    for good in ["film", "A-1_b.c", &"x".repeat(64)] {
        assert!(is_channel_name(good), "{good}");
    }
    for bad in ["", ".", "..", "a b", "a/b", "ä", "\u{1b}", &"x".repeat(65)] {
        assert!(!is_channel_name(bad), "{bad}");
    }
}

#[test]
fn codes_map_both_ways() {
    for number in 0..7 {
        assert_eq!(
            ErrorCode::from_code(number).map(|code| u64::from(code.code())),
            Some(number)
        );
    }
    assert_eq!(ErrorCode::from_code(7), None);
    for (index, code) in RejectCode::ALL.into_iter().enumerate() {
        assert_eq!(code.index(), index);
        assert_eq!(
            serde_json::to_string(&code).expect("a word"),
            format!("\"{}\"", code.name())
        );
    }
}
