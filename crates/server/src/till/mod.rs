//! The till: where payment happens. One client of Stripe's HTTP API with a base address, so that the
//! simulated Stripe and the real one are the same code path. Nothing else in the server knows Stripe.
//!
//! Start reading at [`Till`]; [`signature`] proves that a webhook is the till's, and [`subscription`] says
//! what a subscription means for a client's life.

mod change;
pub mod reversals;
mod rights;
pub mod signature;
mod stripe;
pub mod subscription;

pub use change::{Change, Invoice, Line, Preview};
pub use stripe::{Checkout, Order, Till, TillConfig, TillError};
pub use subscription::Subscription;
