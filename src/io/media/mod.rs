//! Where media comes from and goes to.
