//! Passwords: argon2id on threads of their own, at a low priority and behind a bounded queue, so that
//! hashing never delays any other request.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::oneshot;

/// OWASP's minimum for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

pub const MIN_LENGTH: usize = 10;
/// Hashing takes no longer for a long password, but reading and judging it does.
pub const MAX_LENGTH: usize = 200;

type Job = Box<dyn FnOnce(&Argon2<'_>) + Send>;

/// The threads that hash, one a core. They end when this is dropped.
pub struct Passwords {
    jobs: SyncSender<Job>,
    /// Of a password that nobody has: verified when there is no account, so that the answer takes as long.
    decoy: Arc<str>,
}

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("too many passwords wait to be checked")]
    Busy,
    #[error("the hashing threads cannot work: {0}")]
    Broken(String),
}

impl Passwords {
    /// `queue` passwords may wait at once.
    pub fn start(queue: usize) -> Result<Self, PasswordError> {
        let (jobs, receiver) = sync_channel::<Job>(queue.max(1));
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || work(&receiver))
                .map_err(|error| PasswordError::Broken(error.to_string()))?;
        }
        let decoy = argon2()?
            .hash_password(crate::secrets::random_token().as_bytes())
            .map_err(|error| PasswordError::Broken(error.to_string()))?;
        Ok(Self { jobs, decoy: decoy.to_string().into() })
    }

    /// The PHC string to store.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.run(move |argon2| argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()))
            .await?
            .map_err(|error| PasswordError::Broken(error.to_string()))
    }

    /// Whether the password is that of `hash`. Without a hash it is not, and finding out takes as long.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, PasswordError> {
        let decoy = Arc::clone(&self.decoy);
        self.run(move |argon2| {
            let stored = hash.as_deref().unwrap_or(&decoy);
            let matches = PasswordHash::new(stored)
                .is_ok_and(|stored| argon2.verify_password(password.as_bytes(), &stored).is_ok());
            matches && hash.is_some()
        })
        .await
    }

    /// Whether a new password will do: `None`, or what is wrong with it. `about` holds what is easily
    /// guessed of this person.
    pub async fn judge(&self, password: String, about: Vec<String>) -> Result<Option<String>, PasswordError> {
        self.run(move |_| weakness(&password, &about)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Argon2<'_>) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |argon2| drop(answer.send(job(argon2))));
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => PasswordError::Busy,
            TrySendError::Disconnected(_) => PasswordError::Broken("they have ended".into()),
        })?;
        result.await.map_err(|_| PasswordError::Broken("a job ended without a result".into()))
    }
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| PasswordError::Broken(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    // On Linux this sets the priority of the calling thread alone. Without it all works, less evenly.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!(%error, "a hashing thread keeps its usual priority");
    }
    let Ok(argon2) = argon2() else { return };
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A job that panics drops its answer, which its caller reports; the thread lives on.
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&argon2))));
    }
}

/// Only what bounds the work; [`Passwords::judge`] says whether it is strong.
pub fn length_problem(password: &str) -> Option<String> {
    let length = password.chars().count();
    if length < MIN_LENGTH {
        Some(format!("must have at least {MIN_LENGTH} characters"))
    } else if length > MAX_LENGTH {
        Some(format!("must have at most {MAX_LENGTH} characters"))
    } else if password.chars().any(char::is_control) {
        Some("must not contain control characters".into())
    } else {
        None
    }
}

fn weakness(password: &str, about: &[String]) -> Option<String> {
    let about: Vec<&str> = about.iter().map(String::as_str).collect();
    let estimate = zxcvbn::zxcvbn(password, &about);
    if estimate.score() >= zxcvbn::Score::Two {
        return None;
    }
    let advice = estimate.feedback().and_then(|feedback| feedback.suggestions().first().map(ToString::to_string));
    Some(format!("is guessed too easily. {}", advice.unwrap_or_else(|| "Use a few uncommon words.".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_alone() {
        let passwords = Passwords::start(8).unwrap();
        let hash = passwords.hash("correct horse battery".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse battery".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horse batterx".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("anything".into(), None).await.unwrap());
        assert!(!passwords.verify("anything".into(), Some("not a hash".into())).await.unwrap());
    }

    #[tokio::test]
    async fn beyond_the_queue_it_is_busy_at_once() {
        let passwords = Passwords::start(1).unwrap();
        let attempts = futures::future::join_all((0..64).map(|_| passwords.hash("correct horse".into()))).await;
        let busy = attempts.iter().filter(|r| matches!(r, Err(PasswordError::Busy))).count();
        assert!(busy > 0 && busy < 64, "{busy}");
    }

    #[test]
    fn guessable_passwords_are_refused_with_advice() {
        assert!(length_problem("short").unwrap().contains("at least 10"));
        assert!(length_problem(&"x".repeat(201)).is_some());
        assert!(length_problem("0123456789\0").is_some());
        assert_eq!(length_problem("ünïcödé pässwörd"), None);
        assert!(weakness("password123", &[]).is_some());
        assert!(weakness("acmelawfirm1", &["acmelawfirm".into()]).is_some());
        assert_eq!(weakness("plum-violin-orbit", &[]), None);
    }

    #[tokio::test]
    async fn a_job_that_panics_is_reported_and_the_thread_goes_on() {
        let passwords = Passwords::start(8).unwrap();
        for _ in 0..8 {
            assert!(matches!(passwords.run(|_| panic!("on purpose")).await, Err::<(), _>(PasswordError::Broken(_))));
        }
        assert!(passwords.hash("correct horse".into()).await.is_ok());
    }
}
