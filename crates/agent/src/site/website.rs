//! The client's website: what is in the folder `site`, or a welcome page while nothing is.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};

use super::{file, pages, reads_only};
use crate::path::{DataPath, SITE};
use crate::stack::Stack;
use crate::tree::TreeError;

pub(super) async fn handle(stack: &Arc<Stack>, request: Request) -> Response {
    if let Err(refusal) = reads_only(&request) {
        return *refusal;
    }
    let request = &request.into_parts().0;
    let asked = request.uri.path();
    let Some(path) = DataPath::from_url(SITE, asked) else { return missing(stack, request).await };
    let Some(node) = stack.tree.get(&path) else { return missing(stack, request).await };
    if !node.is_folder() {
        return send(stack, &path, request, StatusCode::OK).await;
    }
    let index = path.child("index.html").filter(|index| stack.tree.get(index).is_some_and(|node| !node.is_folder()));
    match index {
        // Built from the path that was found, so that `//elsewhere` leads nowhere else.
        Some(_) if !asked.ends_with('/') => {
            Redirect::permanent(&format!("{}/", &path.url()[SITE.len()..])).into_response()
        }
        Some(index) => send(stack, &index, request, StatusCode::OK).await,
        None if path.parent().is_none() => pages::welcome(&stack.spec()),
        None => missing(stack, request).await,
    }
}

/// Whether the client's website has something of that name.
pub(super) fn has(stack: &Stack, url: &str) -> bool {
    DataPath::from_url(SITE, url).is_some_and(|path| stack.tree.get(&path).is_some())
}

/// The client's own page for what is missing, if there is one.
async fn missing(stack: &Arc<Stack>, request: &Parts) -> Response {
    match DataPath::new("site/404.html").filter(|page| stack.tree.get(page).is_some()) {
        Some(page) => send(stack, &page, request, StatusCode::NOT_FOUND).await,
        None => pages::not_found(),
    }
}

async fn send(stack: &Arc<Stack>, path: &DataPath, request: &Parts, status: StatusCode) -> Response {
    match file::answer(&stack.tree, path, &request.headers).await {
        Ok(mut response) => {
            if status != StatusCode::OK {
                *response.status_mut() = status;
            }
            response
        }
        Err(TreeError::Missing | TreeError::Refused) => pages::not_found(),
        Err(error) => pages::failed(&error),
    }
}
