//! A service around one shared model: `POST /read` takes an image and answers with its text as it is written.
//!
//!     cargo run --release -p embed_in_axum -- --listen 127.0.0.1:3000
//!     curl --data-binary @assets/page.png http://127.0.0.1:3000/read
//!
//! The model is a handle that each request clones. Reading runs on a blocking thread; when the client goes away the
//! channel closes, the stream is dropped, and the work stops within one token.
#![allow(clippy::print_stderr)]

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use clap::Parser;
use deepseek_ocr::{DeepseekOcr, Error, Mode, Page, Request, Task, preprocess::Damage};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Largest image that is taken, in bytes.
const BODY_LIMIT: usize = 32 << 20;
/// Pieces of text that wait for a slow client.
const PIECES: usize = 16;

/// Without it the system takes back the large buffers of each operation, and clears them anew for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// A model folder; without it the embedded mini checkpoint reads.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The device to run on.
    #[arg(long, default_value = "flex")]
    device: String,
    /// What a page costs and shows: tiny, small, base, large, gundam. The mini checkpoint knows tiny.
    #[arg(long)]
    mode: Option<Mode>,
    /// Threads that compute, with `--model`; by default one for each core. One less leaves a core to the service itself.
    #[arg(long, requires = "model")]
    threads: Option<usize>,
    /// Requests that read at the same time; more would only share the same threads.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
}

#[derive(Clone)]
struct Service {
    model: DeepseekOcr,
    mode: Mode,
    places: Arc<Semaphore>,
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
    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app(model, mode, options.at_once)).with_graceful_shutdown(stop).await?;
    Ok(())
}

fn app(model: DeepseekOcr, mode: Mode, at_once: usize) -> Router {
    let service = Service { model, mode, places: Arc::new(Semaphore::new(at_once)) };
    Router::new().route("/read", post(read)).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(service)
}

async fn read(State(service): State<Service>, image: Bytes) -> Response {
    let Ok(place) = service.places.clone().acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let (pieces, text) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let sent = read_into(&service, &image, &pieces);
        if let Err(error) = sent {
            // A client that has gone away needs no message.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    answer(text).await
}

/// Reads a page into a channel; ends early when nobody listens any more.
fn read_into(service: &Service, image: &[u8], pieces: &mpsc::Sender<Result<String, Error>>) -> Result<(), Error> {
    // The answer has no place for warnings, so half a page is no page.
    let page = Page::reader().with_damage(Damage::Refuse).from_bytes(image)?;
    let request = Request::new(page).with_mode(service.mode).with_task(Task::FreeOcr);
    if pieces.is_closed() {
        return Ok(());
    }
    for piece in service.model.stream(request)? {
        if pieces.blocking_send(Ok(piece?)).is_err() {
            break;
        }
    }
    Ok(())
}

/// An error before the first piece is a status; later it can only cut the body.
async fn answer(mut text: mpsc::Receiver<Result<String, Error>>) -> Response {
    use tokio_stream::StreamExt;
    match text.recv().await {
        Some(Err(error)) => (status(&error), format!("{error}\n")).into_response(),
        Some(Ok(first)) => {
            Body::from_stream(tokio_stream::once(Ok(first)).chain(ReceiverStream::new(text))).into_response()
        }
        None => StatusCode::OK.into_response(),
    }
}

fn status(error: &Error) -> StatusCode {
    match error {
        Error::ImageTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::NotAnImage => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Error::ImageDecode { .. } | Error::ImageTruncated { .. } | Error::ImageEmpty { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Error::InvalidRequest { .. } | Error::PromptTooLong { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests;
