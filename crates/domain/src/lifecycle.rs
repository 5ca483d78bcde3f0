//! A client's life.
