//! (qos)
