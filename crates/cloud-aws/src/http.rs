//! What is fetched over HTTP beside AWS's API: a release's list of checksums, SNS's certificates.

use std::time::Duration;

use stackpro_tls::Roots;
use tokio::sync::OnceCell;

const PATIENCE: Duration = Duration::from_secs(5);

/// A client that is made when it is first needed. It follows no redirection.
#[derive(Default)]
pub(crate) struct Http(OnceCell<reqwest::Client>);

impl Http {
    /// A body of this many bytes at most; the error says what was wrong.
    pub(crate) async fn get(&self, url: &str, limit: usize) -> Result<Vec<u8>, String> {
        let client = self.0.get_or_try_init(client).await?;
        let mut answer = client.get(url).send().await.map_err(innermost)?;
        if !answer.status().is_success() {
            return Err(format!("{url} was answered with {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(innermost)? {
            body.extend_from_slice(&part);
            if body.len() > limit {
                return Err(format!("{url} is longer than {limit} bytes"));
            }
        }
        Ok(body)
    }
}

async fn client() -> Result<reqwest::Client, String> {
    let trust = Roots::default().client_config().map_err(|error| error.to_string())?;
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
    builder.tls_backend_preconfigured(trust).build().map_err(innermost)
}

/// The reason that tells: reqwest's own words name the address alone.
fn innermost(error: reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{error}: {cause}")
}
