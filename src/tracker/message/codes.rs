//! Why a request failed: the numbers of RFC 7846, and our reasons behind them.

use serde::Serialize;

/// Error codes (RFC 7846 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 0: success.
    None,
    /// 1: malformed message.
    BadRequest,
    /// 2: version not spoken.
    UnsupportedVersion,
    /// 3: not allowed now; usually the tracker does not know the peer (any more).
    ForbiddenAction,
    /// 4: unexpected condition.
    InternalError,
    /// 5: overload.
    ServiceUnavailable,
    /// 6: the peer must authenticate.
    AuthenticationRequired,
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::BadRequest => 1,
            Self::UnsupportedVersion => 2,
            Self::ForbiddenAction => 3,
            Self::InternalError => 4,
            Self::ServiceUnavailable => 5,
            Self::AuthenticationRequired => 6,
        }
    }

    /// The meaning of a number, if the RFC gives it one.
    pub const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::BadRequest,
            2 => Self::UnsupportedVersion,
            3 => Self::ForbiddenAction,
            4 => Self::InternalError,
            5 => Self::ServiceUnavailable,
            6 => Self::AuthenticationRequired,
            _ => return None,
        })
    }

    /// The name in the RFC, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "no error",
            Self::BadRequest => "bad request",
            Self::UnsupportedVersion => "unsupported version",
            Self::ForbiddenAction => "forbidden action",
            Self::InternalError => "internal server error",
            Self::ServiceUnavailable => "service unavailable",
            Self::AuthenticationRequired => "authentication required",
        }
    }
}

/// Why a request was refused, more precisely than an error code can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// The reason.
    pub code: RejectCode,
    /// The reason for people, one line.
    pub text: String,
    /// When to ask again, in seconds.
    pub retry_s: u64,
}

/// Reasons for refusing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// The message is malformed.
    BadRequest,
    /// The version is not spoken here.
    Version,
    /// The peer is not registered (any more).
    NotRegistered,
    /// No action of the request makes sense now.
    Forbidden,
    /// Nobody announces a channel of that name, now.
    NoSuchChannel,
    /// Another key holds the name.
    NameTaken,
    /// The channel description does not prove what the request claims.
    BadDescription,
    /// The tracker is full, or this address has taken its share.
    Full,
    /// The provider does not sell or give what was asked for.
    NotAdmitted,
    /// The payment is under way.
    PaymentPending,
    /// The peer has not shown that it may do that: no ticket, a bad one, or one that allows less.
    Unauthorized,
    /// Another of several trackers answers for all of them, now.
    Standby,
}

impl RejectCode {
    /// Every reason, in the order of [`index`](Self::index).
    pub const ALL: [Self; 12] = [
        Self::BadRequest,
        Self::Version,
        Self::NotRegistered,
        Self::Forbidden,
        Self::NoSuchChannel,
        Self::NameTaken,
        Self::BadDescription,
        Self::Full,
        Self::NotAdmitted,
        Self::PaymentPending,
        Self::Unauthorized,
        Self::Standby,
    ];

    /// Position in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word on the wire, and the label of its counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Version => "version",
            Self::NotRegistered => "not_registered",
            Self::Forbidden => "forbidden",
            Self::NoSuchChannel => "no_such_channel",
            Self::NameTaken => "name_taken",
            Self::BadDescription => "bad_description",
            Self::Full => "full",
            Self::NotAdmitted => "not_admitted",
            Self::PaymentPending => "payment_pending",
            Self::Unauthorized => "unauthorized",
            Self::Standby => "standby",
        }
    }

    /// The code of RFC 7846 that goes with it.
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::BadRequest => ErrorCode::BadRequest,
            Self::Version => ErrorCode::UnsupportedVersion,
            Self::NotRegistered
            | Self::Forbidden
            | Self::NoSuchChannel
            | Self::NameTaken
            | Self::BadDescription
            | Self::NotAdmitted => ErrorCode::ForbiddenAction,
            Self::Full | Self::PaymentPending | Self::Standby => ErrorCode::ServiceUnavailable,
            Self::Unauthorized => ErrorCode::AuthenticationRequired,
        }
    }
}
