//! The agent from outside: real processes, real sockets, real folders.

mod serving;
mod support;
