//! The real product in a test: [`TestApp`] starts the binary on a data folder of its own and speaks to it
//! as the world does; [`FaultProxy`] breaks connections; [`Ca`] is a CA; [`Engine`] runs containers, of which
//! [`wordpress`] is one; [`eventually`] waits with a bound.
//!
//! It never reaches into the product: what a test sees, a client, an operator or an agent could see too.
//! On its end a [`TestApp`] asserts that nothing is left over. Start reading at [`TestApp`].

// A test kit panics: that is how a test fails.
#![allow(clippy::expect_used, clippy::print_stderr)]

mod app;
pub mod aws;
mod browser;
mod ca;
mod engine;
mod forms;
mod people;
mod ports;
pub mod postgres;
mod processes;
mod proxy;
mod wait;
pub mod wordpress;

pub use app::{Builder, ServeInfo, TestApp};
pub use browser::{Browser, Portal};
pub use ca::{Ca, ChallengeServer, Lost};
pub use engine::Engine;
pub use forms::Form;
pub use people::{Operator, PASSWORD, Person};
pub use ports::free_address;
pub use processes::processes_of;
pub use proxy::{Fault, FaultProxy};
pub use wait::eventually;
