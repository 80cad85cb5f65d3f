<<<<<<< HEAD
//! Bytes and texts that must not change: hex vectors of every message, records, help.

mod vectors;
mod wire;
=======
//! Bytes and lines that must not change by accident.

mod records;
>>>>>>> stats
