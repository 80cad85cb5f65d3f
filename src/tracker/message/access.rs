//! The part of `x_ext` about keys and tickets: who asks, and what that lets him do.

use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::{Map, Value};

use super::ext::write_base64;
use super::is_channel_name;
use super::read::{bytes_of, integer, list};
use crate::ids::PeerKey;
use crate::seal::{EpochId, EpochKey, RING_MAX};
use crate::tracker::ticket::Revocation;

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 256;

/// What proves a user to a tracker. Never shown; overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of 1 to 256 printable ASCII characters without spaces.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = (1..=SECRET_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(Self(text))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        // Without this the compiler may see that nobody reads the zeros.
        std::hint::black_box(&bytes);
    }
}

/// What a request says about who sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct AccessRequest {
    /// The key that neighbours know the peer by; in hexadecimal on the wire.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_key")]
    pub key: Option<PeerKey>,
    /// Secret of the user that the deal names, where he has no ticket yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// His ticket; base64 on the wire.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_base64"
    )]
    pub ticket: Option<Bytes>,
    /// Whether new tickets are wanted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
    /// Whether the channel is to be sealed, from its source.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub seal: bool,
    /// The newest epoch key that this tracker gave the asker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<EpochId>,
}

/// Keys to a sealed channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SealKeys {
    /// The epoch whose key the source is to seal with; it keeps to the one it has when none is named.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub seal_with: Option<EpochId>,
    /// Keys by epoch, the next one last; base64 on the wire.
    #[serde(serialize_with = "write_seal_keys")]
    pub keys: Vec<(EpochId, EpochKey)>,
}

impl SealKeys {
    /// The newest of them.
    pub fn newest(&self) -> Option<EpochId> {
        self.keys.iter().map(|(epoch, _)| *epoch).max()
    }
}

/// How a channel is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelAuth {
    /// Keys of the trackers whose tickets open it; in hexadecimal on the wire.
    #[serde(serialize_with = "write_keys")]
    pub issuers: Vec<PeerKey>,
    /// Whether media goes only to holders of tickets.
    pub closed: bool,
}

/// What a response says about that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessResponse {
    /// How the channel is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<ChannelAuth>,
    /// For the next requests, in place of the secret; base64 on the wire.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_base64"
    )]
    pub user_ticket: Option<Bytes>,
    /// For neighbours; base64 on the wire.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_base64"
    )]
    pub channel_ticket: Option<Bytes>,
    /// Whose tickets are void though they have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<Revocation>,
    /// Keys to the channel, when it is sealed and the asker may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<SealKeys>,
}

impl AccessResponse {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the members of a request.
pub(super) fn request(object: &Map<String, Value>) -> Result<AccessRequest, String> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let key = text("key").map(|key| key.parse().map_err(|why| format!("key: {why}")));
    let token = match text("token") {
        Some(token) => Some(Secret::new(token).ok_or("token: need 1 to 256 printable characters")?),
        None => None,
    };
    Ok(AccessRequest {
        key: key.transpose()?,
        token,
        ticket: bytes_of(object, "ticket")?,
        renew: object.get("renew").and_then(Value::as_bool) == Some(true),
        seal: object.get("seal").and_then(Value::as_bool) == Some(true),
        epoch: object.get("epoch").and_then(epoch),
    })
}

/// Reads the members of a response; what cannot be read counts as absent.
pub(super) fn response(object: &Map<String, Value>) -> AccessResponse {
    let auth = object.get("auth").and_then(Value::as_object);
    AccessResponse {
        auth: auth.map(|auth| ChannelAuth {
            issuers: list(auth.get("issuers"))
                .iter()
                .filter_map(|key| key.as_str()?.parse().ok())
                .collect(),
            closed: auth.get("closed").and_then(Value::as_bool) == Some(true),
        }),
        user_ticket: bytes_of(object, "user_ticket").ok().flatten(),
        channel_ticket: bytes_of(object, "channel_ticket").ok().flatten(),
        revoked: list(object.get("revoked"))
            .iter()
            .filter_map(|value| {
                Some(Revocation {
                    user: value
                        .get("user")?
                        .as_str()
                        .filter(|user| is_channel_name(user))?
                        .to_owned(),
                    at: integer(value.get("at")?)?,
                })
            })
            .collect(),
        seal: object.get("seal").and_then(Value::as_object).map(seal_keys),
    }
}

fn epoch(value: &Value) -> Option<EpochId> {
    EpochId::new(integer(value)?)
}

fn seal_keys(object: &Map<String, Value>) -> SealKeys {
    let key = |value: &Value| {
        let text = value.get("key")?.as_str()?;
        let key = BASE64.decode(text.as_bytes()).ok()?;
        let key = EpochKey::from_bytes(key.try_into().ok()?);
        Some((epoch(value.get("epoch")?)?, key))
    };
    SealKeys {
        seal_with: object.get("use").and_then(epoch),
        keys: list(object.get("keys"))
            .iter()
            .filter_map(key)
            .take(RING_MAX)
            .collect(),
    }
}

fn write_seal_keys<S: Serializer>(
    keys: &[(EpochId, EpochKey)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Wire {
        epoch: EpochId,
        key: String,
    }
    serializer.collect_seq(keys.iter().map(|(epoch, key)| Wire {
        epoch: *epoch,
        key: BASE64.encode(key.reveal()),
    }))
}

fn write_key<S: Serializer>(key: &Option<PeerKey>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => serializer.collect_str(key),
        None => serializer.serialize_none(),
    }
}

fn write_keys<S: Serializer>(keys: &[PeerKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(PeerKey::to_string))
}
