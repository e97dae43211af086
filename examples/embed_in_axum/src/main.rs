//! A service around one engine: `POST /read` takes an image and answers with its text as it is written.
//!
//!     cargo run --release -p embed_in_axum -- --listen 127.0.0.1:3000
//!     curl --data-binary @assets/page.png http://127.0.0.1:3000/read
//!
//! All requests share one [`Engine`]: it reads up to `--rows` pages together, keeps up to `--queue` waiting, and refuses what comes on top
//! with 503 and a `Retry-After`. A client that goes away takes its request out of the queue or the batch.
//!
//! Threads: the engine computes on a pool of its own, `--threads` with `--model`, else one for each core; one less leaves a core
//! to the service itself. Tokio's threads only move bytes. What blocks (decoding an image, waiting for the next piece)
//! runs on its blocking threads, of which there are at most as many as requests.
#![allow(clippy::print_stderr)]

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Parser;
use deepseek_ocr::{
    DeepseekOcr, Engine, EngineCanceller, EngineOptions, EngineStream, Error, ErrorKind, Mode, Page, Request, Task,
    WhenFull, preprocess::Damage,
};
use std::{net::SocketAddr, path::PathBuf};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

/// Largest image that is taken, in bytes.
const BODY_LIMIT: usize = 32 << 20;
/// Pieces of text that wait for a slow client.
const PIECES: usize = 16;
/// When a client that was refused may come again: about the time of a page, in seconds.
const RETRY_SECONDS: &str = "5";

/// Keeps memory: the system takes back the large buffers of each operation, and clears them anew for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// A model folder; without it the embedded mini checkpoint reads
    #[arg(long)]
    model: Option<PathBuf>,
    /// The device to run on
    #[arg(long, default_value = "flex")]
    device: String,
    /// What a page costs and shows: tiny, small, base, large, gundam; the mini checkpoint knows tiny
    #[arg(long)]
    mode: Option<Mode>,
    /// Threads that compute, with `--model` [default: one for each core]
    #[arg(long, requires = "model")]
    threads: Option<usize>,
    /// Pages that are read together
    #[arg(long, default_value_t = 4)]
    rows: usize,
    /// Pages that wait
    #[arg(long, default_value_t = 32)]
    queue: usize,
    /// Megabytes of keys and values at most: what a page may still write is counted before it starts
    #[arg(long)]
    cache_mb: Option<u64>,
}

#[derive(Clone)]
struct Service {
    engine: Engine,
    mode: Mode,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let device = deepseek_ocr::device(&options.device)?;
    let (model, mode) = match &options.model {
        Some(folder) => {
            let loader = DeepseekOcr::loader(folder).with_device(&device);
            let loader = match options.threads {
                Some(threads) => loader.with_threads(threads),
                None => loader,
            };
            (loader.load()?, options.mode.unwrap_or_default())
        }
        None => (DeepseekOcr::mini(&device)?, options.mode.unwrap_or(Mode::Tiny)),
    };
    let cache_bytes = options.cache_mb.map_or(u64::MAX, |megabytes| megabytes << 20);
    let limits =
        EngineOptions::default().with_rows(options.rows).with_queue(options.queue).with_cache_bytes(cache_bytes);
    let engine = Engine::new(&model, limits.with_when_full(WhenFull::Refuse))?;
    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    // Answers under way are written to their ends.
    axum::serve(listener, app(engine, mode)).with_graceful_shutdown(stop).await?;
    Ok(())
}

fn app(engine: Engine, mode: Mode) -> Router {
    let routes = Router::new().route("/read", post(read)).route("/load", get(load));
    routes.layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(Service { engine, mode })
}

/// For a health check, and for whoever spreads requests over machines.
async fn load(State(service): State<Service>) -> String {
    let load = service.engine.load();
    format!("running {}, waiting {}\n", load.running, load.waiting)
}

async fn read(State(service): State<Service>, image: Bytes) -> Response {
    match spawn_blocking(move || submit(&service, &image)).await {
        Ok(Ok(stream)) => answer(stream).await,
        Ok(Err(error)) => refusal(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn submit(service: &Service, image: &[u8]) -> Result<EngineStream, Error> {
    // The answer has no place for warnings, so half a page is no page.
    let page = Page::reader().with_damage(Damage::Refuse).from_bytes(image)?;
    service.engine.submit(Request::new(page).with_mode(service.mode).with_task(Task::FreeOcr))
}

/// The text as it is written. An error before the first piece is a status; later it can only cut the body.
async fn answer(stream: EngineStream) -> Response {
    let client = Client(stream.canceller());
    let (pieces, text) = mpsc::channel(PIECES);
    spawn_blocking(move || {
        for piece in stream {
            if pieces.blocking_send(piece).is_err() {
                break;
            }
        }
    });
    let mut text = ReceiverStream::new(text);
    match text.next().await {
        Some(Err(error)) => refusal(&error),
        first => {
            let all = tokio_stream::iter(first).chain(text);
            // The body owns the client: whether it is sent to its end or dropped on the way, the client goes with it.
            Body::from_stream(all.map(move |piece| (piece, &client).0)).into_response()
        }
    }
}

/// Whoever waits for an answer; when it is gone, so is its request.
struct Client(EngineCanceller);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn refusal(error: &Error) -> Response {
    let status = match (error.kind(), error) {
        (ErrorKind::Busy, _) => {
            let retry = [(RETRY_AFTER, RETRY_SECONDS)];
            return (StatusCode::SERVICE_UNAVAILABLE, retry, format!("{error}\n")).into_response();
        }
        (_, Error::ImageTooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Error::NotAnImage { .. }) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (ErrorKind::Image, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (ErrorKind::Request, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests;
