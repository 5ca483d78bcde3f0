//! The pages' handlers: they load what a view of [`crate::web`] shows, and do what its forms ask for.
//!
//! Every form is checked by [`form::Posted`] before a handler sees it.

use axum::Router;

use crate::http::App;

pub fn router() -> Router<App> {
    Router::new()
}
