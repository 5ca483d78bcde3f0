//! The simulated Stripe over real HTTP: what is answered is kept, what is sent twice happens once, what
//! fails is told, and time does what it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checkout;
mod codes;
mod keeping;
mod money_back;
mod pages;
mod support;
mod time;
mod webhooks;
