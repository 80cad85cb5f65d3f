//! Reading records back.
