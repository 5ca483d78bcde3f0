//! What ours is compared with: an axum route that does nothing but answer the same bytes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::any;

use crate::load::SERVER_CORE;

/// A bare server on a core of its own. Dropped, it ends.
pub(crate) struct Bare {
    process: Child,
    pub url: String,
}

impl Bare {
    /// `body` is what every request is answered with.
    pub(crate) fn start(body: &[u8]) -> Self {
        let file = std::env::temp_dir().join(format!("stackpro-bare-{}", std::process::id()));
        std::fs::write(&file, body).expect("a temporary file");
        let this = std::env::current_exe().expect("this program");
        let mut process = Command::new("taskset")
            .args(["-c", &SERVER_CORE.to_string()])
            .arg(this)
            .arg("bare")
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bare server starts");
        let mut url = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut url).expect("its address");
        Self { process, url: url.trim().to_owned() }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The process behind [`Bare`]: prints its address, and answers until it is killed.
pub(crate) async fn serve(file: &str) {
    let body: &'static [u8] = Vec::leak(std::fs::read(file).expect("the body to answer"));
    std::fs::remove_file(file).expect("the body was read");
    // It reads what it is sent, as any route with a body does.
    let answer = move |_: axum::body::Bytes| async move { ([(CONTENT_TYPE, "application/json")], body) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
    println!("http://{}", listener.local_addr().expect("an address"));
    axum::serve(listener, Router::new().route("/", any(answer))).await.expect("it serves");
}
