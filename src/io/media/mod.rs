//! Where media comes from and goes to: the endpoints of the command line, opened.
//!
//! [`Endpoint`] is what a person writes; Inputs and outputs are what it becomes. Nothing here looks into the
//! media except to pace it.

mod endpoint;
mod value;

pub use endpoint::{DatagramOptions, Datagrams, Endpoint, EndpointError, Host, HttpAddress};
pub use value::{ValueError, nearest, parse_duration, parse_rate, parse_size, quoted};
