//! Bytes and lines that must not change by accident.

mod records;
