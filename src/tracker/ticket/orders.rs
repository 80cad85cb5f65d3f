//! Orders of the operator as JSON: what an administrator's request says, and what it is answered.
//!
//! Who may give orders is for the shell to check; it also stores the rows before it answers.

use serde_json::{Value, json};

use super::Roles;
use super::office::{OfficeError, TicketOffice};
use crate::time::Instant;
use crate::tracker::message::Secret;
use crate::tracker::provider::change::Change;

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// HTTP status.
    pub status: u16,
    /// The answer. The one to `user_add` holds the user's secret, and is the only place that ever does.
    pub body: Value,
    /// What to store before the answer is sent.
    pub changes: Vec<Change>,
}

impl Outcome {
    /// One that was.
    pub const fn done(body: Value, changes: Vec<Change>) -> Self {
        Self {
            status: 200,
            body,
            changes,
        }
    }

    /// An order that was not carried out, and why.
    pub fn failed(status: u16, why: impl ToString) -> Self {
        Self {
            status,
            body: json!({ "error": why.to_string() }),
            changes: Vec::new(),
        }
    }
}

/// Carries out one order: `user_add {name, roles?}`, `user_list`, `user_revoke {name}`, `channel_close {name}`,
/// `channel_open {name}`, `channel_list`. `secret` is for the user who is made, should one be.
pub fn carry_out(
    office: &mut TicketOffice,
    now: Instant,
    order: &str,
    body: &Value,
    secret: &Secret,
) -> Outcome {
    let name = body.get("name").and_then(Value::as_str);
    let result = match (order, name) {
        ("user_list", _) => {
            let users = office.users().map(|(name, roles)| {
                let roles = names(roles);
                json!({ "name": name, "roles": roles })
            });
            return Outcome::done(json!({ "users": users.collect::<Vec<_>>() }), Vec::new());
        }
        ("channel_list", _) => {
            let closed: Vec<&str> = office.closed().collect();
            return Outcome::done(json!({ "closed": closed }), Vec::new());
        }
        ("user_add", Some(name)) => {
            let Some(roles) = roles_in(body) else {
                return Outcome::failed(400, "roles: need any of watch, serve, publish");
            };
            office.add_user(name, secret, roles).map(|changes| {
                let secret = secret.reveal();
                Outcome::done(json!({ "name": name, "secret": secret }), changes)
            })
        }
        ("user_revoke", Some(name)) => office
            .revoke_user(now, name)
            .map(|changes| Outcome::done(json!({ "name": name }), changes)),
        ("channel_close" | "channel_open", Some(name)) => {
            let closed = order == "channel_close";
            office
                .set_closed(name, closed)
                .map(|changes| Outcome::done(json!({ "name": name, "closed": closed }), changes))
        }
        ("user_add" | "user_revoke" | "channel_close" | "channel_open", None) => {
            return Outcome::failed(400, "name: missing or no text");
        }
        _ => return Outcome::failed(404, "no such order"),
    };
    result.unwrap_or_else(|error| match error {
        OfficeError::NoSuchUser => Outcome::failed(404, error),
        OfficeError::Exists => Outcome::failed(409, error),
        _ => Outcome::failed(400, error),
    })
}

const ROLES: [(&str, Roles); 3] = [
    ("watch", Roles::WATCH),
    ("serve", Roles::SERVE),
    ("publish", Roles::PUBLISH),
];

fn names(roles: Roles) -> Vec<&'static str> {
    ROLES
        .into_iter()
        .filter(|(_, role)| roles.allow(*role))
        .map(|(name, _)| name)
        .collect()
}

/// The roles of a new user: to watch, unless it says otherwise.
fn roles_in(body: &Value) -> Option<Roles> {
    let Some(list) = body.get("roles") else {
        return Some(Roles::WATCH);
    };
    let mut roles = Roles::NONE;
    for word in list.as_array()? {
        let (_, role) = ROLES.into_iter().find(|(name, _)| word == name)?;
        roles = roles.with(role);
    }
    Some(roles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::key::SigningKey;
    use crate::rng::Seed;
    use crate::time::Epoch;
    use crate::tracker::ticket::office::Lives;

    #[test]
    fn orders_are_carried_out_or_refused_with_a_reason() {
        let key = SigningKey::from_seed_ed25519([5; 32]);
        let seed = Seed::from_number(1);
        let mut office =
            TicketOffice::new(Epoch::default(), key, Lives::default(), seed).expect("Ed25519");
        let secret = Secret::new("s3cret").expect("printable");
        let anna = json!({"name": "anna", "roles": ["watch", "serve"]});
        for (order, body, status, answer, rows) in [
            (
                "user_add",
                &anna,
                200,
                json!({"name": "anna", "secret": "s3cret"}),
                1,
            ),
            (
                "user_add",
                &anna,
                409,
                json!({"error": "there is such a user already"}),
                0,
            ),
            (
                "user_list",
                &json!({}),
                200,
                json!({"users": [{"name": "anna", "roles": ["watch", "serve"]}]}),
                0,
            ),
            (
                "user_add",
                &json!({"name": "bert", "roles": ["rule"]}),
                400,
                json!({"error": "roles: need any of watch, serve, publish"}),
                0,
            ),
            (
                "user_add",
                &json!({"name": "a b"}),
                400,
                json!({"error": "need 1 to 64 of A-Z a-z 0-9 . _ -"}),
                0,
            ),
            (
                "user_revoke",
                &json!({"name": "anna"}),
                200,
                json!({"name": "anna"}),
                2,
            ),
            (
                "user_revoke",
                &json!({"name": "anna"}),
                404,
                json!({"error": "no such user"}),
                0,
            ),
            (
                "user_revoke",
                &json!({}),
                400,
                json!({"error": "name: missing or no text"}),
                0,
            ),
            (
                "channel_close",
                &json!({"name": "film"}),
                200,
                json!({"name": "film", "closed": true}),
                1,
            ),
            (
                "channel_list",
                &json!({}),
                200,
                json!({"closed": ["film"]}),
                0,
            ),
            (
                "channel_open",
                &json!({"name": "film"}),
                200,
                json!({"name": "film", "closed": false}),
                1,
            ),
            ("channel_list", &json!({}), 200, json!({"closed": []}), 0),
            (
                "reboot",
                &json!({"name": "x"}),
                404,
                json!({"error": "no such order"}),
                0,
            ),
        ] {
            let outcome = carry_out(&mut office, Instant::ZERO, order, body, &secret);
            assert_eq!(outcome.status, status, "{order} {body}");
            assert_eq!(outcome.body, answer, "{order} {body}");
            assert_eq!(outcome.changes.len(), rows, "{order} {body}");
        }
    }
}
