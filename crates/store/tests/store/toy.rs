//! Flows to test with. What a step makes is a file, so that it outlives any process; whoever executes a step
//! holds a lock of the operating system meanwhile, which shows if two ever execute the same one at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use stackpro_domain::FlowId;
use stackpro_flow::{FlowSpec, Registry, StepCtx, StepError, StepResult, StepSpec, UndoError, UndoResult};

pub(crate) struct World {
    pub(crate) folder: PathBuf,
    /// How long each step takes.
    pub(crate) pause: Duration,
    /// Steps that are being executed, and how many were at most.
    pub(crate) busy: AtomicUsize,
    pub(crate) busiest: AtomicUsize,
}

pub(crate) type Ctx = StepCtx<World>;

impl World {
    pub(crate) fn new(folder: &Path, pause: Duration) -> Arc<Self> {
        for part in ["made", "locks", "seen"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let (busy, busiest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { folder: folder.to_owned(), pause, busy, busiest })
    }

    /// How often `what` was seen before, in any process.
    fn seen(&self, what: &str) -> usize {
        let mut times = 0;
        while File::create_new(self.folder.join("seen").join(format!("{what}-{times}"))).is_err() {
            times += 1;
        }
        times
    }

    fn made_file(&self, flow: &FlowId, step: &str) -> PathBuf {
        self.folder.join("made").join(format!("{flow}.{step}"))
    }
}

/// While this lives, a step is being executed.
struct Execution<'w> {
    world: &'w World,
    _lock: File,
}

impl<'w> Execution<'w> {
    fn begin(world: &'w World, flow: &FlowId, step: &str) -> Self {
        let lock = File::create(world.folder.join("locks").join(format!("{flow}.{step}"))).unwrap();
        if lock.try_lock().is_err() {
            world.seen(&format!("twice-{flow}.{step}"));
        }
        fs::write(world.folder.join("seen").join(format!("worked-{}", std::process::id())), b"").unwrap();
        let busy = world.busy.fetch_add(1, Ordering::SeqCst) + 1;
        world.busiest.fetch_max(busy, Ordering::SeqCst);
        Self { world, _lock: lock }
    }
}

impl Drop for Execution<'_> {
    fn drop(&mut self) {
        self.world.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "z"];

pub(crate) fn make<const STEP: usize>(ctx: &Ctx) -> BoxFuture<'_, StepResult> {
    Box::pin(async move {
        let step = NAMES[STEP];
        let _execution = Execution::begin(&ctx.world, &ctx.flow_id, step);
        tokio::time::sleep(ctx.world.pause).await;
        fs::write(ctx.world.made_file(&ctx.flow_id, step), ctx.subject.as_bytes()).unwrap();
        Ok(json!(format!("made {step}")))
    })
}

pub(crate) fn unmake<const STEP: usize>(ctx: &Ctx) -> BoxFuture<'_, UndoResult> {
    Box::pin(async move {
        let step = NAMES[STEP];
        let _execution = Execution::begin(&ctx.world, &ctx.flow_id, step);
        tokio::time::sleep(ctx.world.pause).await;
        let _ = fs::remove_file(ctx.world.made_file(&ctx.flow_id, step));
        Ok(())
    })
}

/// Checks what the steps before it returned, then makes.
fn gather(ctx: &Ctx) -> BoxFuture<'_, StepResult> {
    Box::pin(async move {
        for step in ["b", "c", "d", "e"] {
            let output: String = ctx.output(step)?;
            assert_eq!(output, format!("made {step}"));
        }
        make::<6>(ctx).await
    })
}

fn fail(_: &Ctx) -> BoxFuture<'_, StepResult> {
    Box::pin(async { Err(StepError::Failed("no".into())) })
}

/// Fails for good the first time.
fn fail_once(ctx: &Ctx) -> BoxFuture<'_, StepResult> {
    Box::pin(async move {
        match ctx.world.seen(&format!("failed-{}", ctx.flow_id)) {
            0 => Err(StepError::Failed("no".into())),
            _ => make::<2>(ctx).await,
        }
    })
}

fn too_late(_: &Ctx) -> BoxFuture<'_, UndoResult> {
    Box::pin(async { Err(UndoError::TooLate(json!("made b"))) })
}

/// Is slowed down, waits, fails, and then works.
fn stumble(ctx: &Ctx) -> BoxFuture<'_, StepResult> {
    Box::pin(async move {
        match ctx.world.seen(&format!("stumbled-{}", ctx.flow_id)) {
            0 => Err(StepError::Throttled { ms: 10, cause: "slow down".into() }),
            1 => Err(StepError::Later { ms: 10, note: Some("almost".into()) }),
            2 => Err(StepError::Retry("a hiccup".into())),
            _ => {
                ctx.note("working on it").await;
                make::<0>(ctx).await
            }
        }
    })
}

/// Works once someone has made the way free.
fn gate(ctx: &Ctx) -> BoxFuture<'_, StepResult> {
    Box::pin(async move {
        if ctx.world.folder.join("gate").exists() {
            make::<1>(ctx).await
        } else {
            Err(StepError::Failed("shut".into()))
        }
    })
}

/// Takes several times as long as a lease of 0.4 seconds.
fn dawdle(ctx: &Ctx) -> BoxFuture<'_, StepResult> {
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        make::<0>(ctx).await
    })
}

pub(crate) type Run = fn(&Ctx) -> BoxFuture<'_, StepResult>;
pub(crate) type Undo = fn(&Ctx) -> BoxFuture<'_, UndoResult>;

pub(crate) const fn step(name: &'static str, needs: &'static [&'static str], run: Run, undo: Undo) -> StepSpec<World> {
    StepSpec { name, title: name, needs, commit: false, api: "toy", max_attempts: 5, turn_back: true, run, undo }
}

const fn spec(kind: &'static str, steps: &'static [StepSpec<World>]) -> FlowSpec<World> {
    FlowSpec { kind, version: 1, steps, supersedes_parked: false }
}

static LINE: FlowSpec<World> = spec(
    "line",
    &[
        step("a", &[], make::<0>, unmake::<0>),
        step("b", &["a"], make::<1>, unmake::<1>),
        step("c", &["b"], make::<2>, unmake::<2>),
    ],
);

static FAN: FlowSpec<World> = spec(
    "fan",
    &[
        step("a", &[], make::<0>, unmake::<0>),
        step("b", &["a"], make::<1>, unmake::<1>),
        step("c", &["a"], make::<2>, unmake::<2>),
        step("d", &["a"], make::<3>, unmake::<3>),
        step("e", &["a"], make::<4>, unmake::<4>),
        step("z", &["b", "c", "d", "e"], gather, unmake::<6>),
    ],
);

static FAILING: FlowSpec<World> = spec(
    "failing",
    &[
        step("a", &[], make::<0>, unmake::<0>),
        step("b", &["a"], make::<1>, unmake::<1>),
        step("c", &["a"], make::<2>, unmake::<2>),
        step("f", &["b"], fail, unmake::<5>),
    ],
);

static TOO_LATE: FlowSpec<World> = spec(
    "too-late",
    &[
        step("a", &[], make::<0>, unmake::<0>),
        step("b", &["a"], make::<1>, too_late),
        step("c", &["b"], fail_once, unmake::<2>),
    ],
);

static STUMBLING: FlowSpec<World> = spec("stumbling", &[step("a", &[], stumble, unmake::<0>)]);
static DAWDLING: FlowSpec<World> = spec("dawdling", &[step("a", &[], dawdle, unmake::<0>)]);
static GATED: FlowSpec<World> = spec(
    "gated",
    &[StepSpec { commit: true, ..step("a", &[], make::<0>, unmake::<0>) }, step("b", &["a"], gate, unmake::<1>)],
);
static DELETING: FlowSpec<World> =
    FlowSpec { supersedes_parked: true, ..spec("deleting", &[step("d", &[], make::<3>, unmake::<3>)]) };

pub(crate) static ALL: [&FlowSpec<World>; 8] =
    [&LINE, &FAN, &FAILING, &TOO_LATE, &STUMBLING, &DAWDLING, &GATED, &DELETING];

pub(crate) fn registry() -> Arc<Registry<World>> {
    Arc::new(Registry::new(ALL.to_vec()).unwrap())
}
