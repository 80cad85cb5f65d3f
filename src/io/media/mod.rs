//! Where media comes from and goes to: the endpoints of the command line, opened.
//!
//! [`Endpoint`] is what a person writes; [`Input`] and [`Output`] are what it becomes. Nothing here looks into the
//! media except to pace it.

mod clock;
mod datagram;
mod descriptor;
mod endpoint;
mod error;
mod hub;
mod input;
mod net;
mod output;
mod queue;
mod reader;
mod serve;
mod tally;
mod unix_socket;
mod unread;
mod writer;

pub use descriptor::{Access, take_descriptor};
pub use endpoint::{DatagramOptions, Datagrams, Endpoint, EndpointError, Host, HttpAddress};
pub(crate) use error::is_unknown_name;
pub use error::{OpenError, reason};
pub use input::{Input, InputOptions, OnEof, Pace};
pub use output::{Outcome, Output, OutputOptions, OutputTotals};
pub use queue::{MediaOut, Offered};
pub use tally::Tally;
pub use writer::Rotate;
