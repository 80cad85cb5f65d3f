//! Why the provider says no.

/// A reason, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A member is missing or makes no sense.
    BadRequest,
    /// There is no such call.
    NoSuchCall,
    /// Log in first.
    NotLoggedIn,
    /// Choose a content first.
    NoContent,
    /// Contract, or join, first.
    NotContracted,
    /// It is contracted already, on other terms.
    AlreadyContracted,
    /// Nobody announces that channel.
    NoSuchChannel,
    /// There is no such user on this content.
    NoSuchUser,
    /// The provider's tables have no such packet or interval.
    NoSuchTerms,
    /// The price is not that of the provider's tables.
    PriceDiffers,
    /// That user does not serve users of this kind, or this user may not have that status.
    NotAllowed,
    /// Nobody has room.
    Full,
    /// The payment was refused.
    PaymentRefused,
    /// The payment is under way: ask again.
    PaymentPending,
    /// Another of several trackers sells, now.
    Standby,
}

impl Code {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NoSuchCall => "no_such_call",
            Self::NotLoggedIn => "not_logged_in",
            Self::NoContent => "no_content",
            Self::NotContracted => "not_contracted",
            Self::AlreadyContracted => "already_contracted",
            Self::NoSuchChannel => "no_such_channel",
            Self::NoSuchUser => "no_such_user",
            Self::NoSuchTerms => "no_such_terms",
            Self::PriceDiffers => "price_differs",
            Self::NotAllowed => "not_allowed",
            Self::Full => "full",
            Self::PaymentRefused => "payment_refused",
            Self::PaymentPending => "payment_pending",
            Self::Standby => "standby",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::NoSuchTerms => 400,
            Self::NotLoggedIn => 401,
            Self::PaymentRefused => 402,
            Self::NotAllowed => 403,
            Self::NoSuchCall | Self::NoSuchChannel | Self::NoSuchUser => 404,
            Self::NoContent
            | Self::NotContracted
            | Self::AlreadyContracted
            | Self::PriceDiffers => 409,
            Self::Full | Self::PaymentPending | Self::Standby => 503,
        }
    }
}

/// A refusal: the reason, and a line for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The reason.
    pub code: Code,
    /// For people, one line.
    pub text: String,
}

/// A refusal.
pub fn refused<T>(code: Code, text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        code,
        text: text.into(),
    })
}
