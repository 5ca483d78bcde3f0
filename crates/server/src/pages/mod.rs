//! The pages' handlers: they load what a view of [`crate::web`] shows, and do what its forms ask for.
//!
//! Start reading at [`router`].

pub mod hosts;

use axum::Router;

use crate::http::App;

pub fn router() -> Router<App> {
    Router::new()
}
