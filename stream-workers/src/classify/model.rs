//! A model directory run by ONNX Runtime, after it has been checked.
//!
//! | file | what it is |
//! | --- | --- |
//! | `model.onnx` | tokens, words and groups of n webhooks in, `probabilities` [n, labels] and `embedding` [n, width] out |
//! | `model.json` | version, labels, threshold, the reading it was trained on, checksums |
//! | `vocabulary.txt` | the words it knows, one a line |
//! | `cases.jsonl` | webhooks and what it must say of them |
//!
//! A model of another reading is refused, since it would be shown what it has never learnt; so is one that
//! does not answer its own cases.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use ort::{
    environment::Environment,
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};
use router_runtime::crypto;
use serde::Deserialize;

use super::{
    cases,
    features::{BUCKETS, Features, GROUPS, MAX_TOKENS, MAX_WORDS, Row},
    reading::SCHEME,
    vocabulary::Vocabulary,
};

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read {0}: {1}")]
    File(PathBuf, String),
    #[error(
        "the model was made for another reading of webhooks ({0}); train it again with this version's `make train`"
    )]
    Reading(String),
    #[error(
        "{file} has the checksum {found}, model.json says {told}: the file is damaged or belongs to another model"
    )]
    Checksum {
        file: &'static str,
        found: String,
        told: String,
    },
    #[error("labels: {0}")]
    Labels(String),
    #[error(
        "ONNX Runtime's library cannot be loaded from {0}: {1}; run `make up`, or `pip install onnxruntime` and set \
         ORT_DYLIB_PATH to its libonnxruntime.so, or set CLASSIFIER=rules to run without a model"
    )]
    Library(PathBuf, String),
    #[error("onnx runtime: {0}")]
    Runtime(String),
    #[error("model.onnx takes {found:?}, not {wanted:?}")]
    Inputs {
        found: Vec<String>,
        wanted: Vec<&'static str>,
    },
    #[error("model.onnx answers {found:?}, not {wanted:?}")]
    Outputs {
        found: Vec<String>,
        wanted: Vec<&'static str>,
    },
    #[error("the model answers {found} numbers for {rows} webhooks and {labels} labels")]
    Shape {
        found: usize,
        rows: usize,
        labels: usize,
    },
    #[error("embedding: {0}")]
    Embedding(String),
    #[error("its own case {case}: {why}")]
    Case { case: usize, why: String },
}

fn runtime(error: impl std::fmt::Display) -> ModelError {
    ModelError::Runtime(error.to_string())
}

const INPUTS: [&str; 3] = ["tokens", "words", "groups"];
const OUTPUTS: [&str; 2] = ["probabilities", "embedding"];
/// Rows of one run: enough to share what a run costs, few enough that their lengths are alike.
const ROWS: usize = 32;

/// `model.json`.
#[derive(Debug, Clone, Deserialize)]
struct Facts {
    version: String,
    labels: Vec<String>,
    reading: Reading,
    threshold: f32,
    /// Likeness from which on an event is taken for one that was corrected.
    same_event: f32,
    sha256: Checksums,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Reading {
    scheme: u32,
    buckets: u32,
    tokens: usize,
    words: usize,
    groups: u8,
    vocabulary: usize,
}

#[derive(Debug, Clone, Deserialize)]
struct Checksums {
    onnx: String,
    vocabulary: String,
}

/// What a model says of one webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// One for each label; together 1.
    pub probabilities: Vec<f32>,
    /// Where it stands among other webhooks: a vector of length 1.
    pub embedding: Vec<f32>,
}

/// A model ready to answer.
pub struct Model {
    facts: Facts,
    vocabulary: Vocabulary,
    /// A session answers one call at a time. One for all batches is enough: inference is a quarter of their work,
    /// and a second session would cost the memory of the model again.
    session: Mutex<Session>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("version", &self.facts.version)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Loads the library and the model of `dir`, and lets it answer its cases.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(library: &Path, dir: &Path) -> Result<Self, ModelError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|error| ModelError::File(path, error.to_string()))
        };
        let text = |name: &str| {
            String::from_utf8(read(name)?)
                .map_err(|error| ModelError::File(dir.join(name), error.to_string()))
        };
        let facts = Facts::read(&text("model.json")?)
            .map_err(|error| ModelError::File(dir.join("model.json"), error))?;
        facts.check()?;
        let onnx = read("model.onnx")?;
        checksum("model.onnx", &onnx, &facts.sha256.onnx)?;
        let words = text("vocabulary.txt")?;
        checksum("vocabulary.txt", words.as_bytes(), &facts.sha256.vocabulary)?;
        let vocabulary = Vocabulary::read(&words)
            .map_err(|error| ModelError::File(dir.join("vocabulary.txt"), error))?;
        if vocabulary.len() != facts.reading.vocabulary {
            let told = facts.reading.vocabulary;
            let why = format!("{} words, model.json says {told}", vocabulary.len());
            return Err(ModelError::File(dir.join("vocabulary.txt"), why));
        }
        let model = Self {
            facts,
            vocabulary,
            session: Mutex::new(session(library, &onnx)?),
        };
        cases::check(&model, &text("cases.jsonl")?)?;
        Ok(model)
    }

    #[must_use]
    pub fn version(&self) -> &str {
        &self.facts.version
    }
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.facts.labels
    }
    /// Below this confidence the category is `other`.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.facts.threshold
    }
    /// The likeness of two embeddings (cosine) from which on they are taken for the same kind of event.
    #[must_use]
    pub fn same_event(&self) -> f32 {
        self.facts.same_event
    }

    /// Reads webhooks as this model takes them.
    #[must_use]
    pub fn features(&self) -> Features<'_> {
        Features::new(&self.vocabulary)
    }

    /// One answer for each row.
    ///
    /// # Errors
    /// ONNX Runtime refuses, or the model's answer has another shape.
    pub fn answers(&self, rows: &[Row]) -> Result<Vec<Answer>, ModelError> {
        let mut answers: Vec<Option<Answer>> = vec![None; rows.len()];
        // Rows are filled up to the longest of their run, so those of one length go together.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by_key(|at| rows[*at].words.len() + rows[*at].tokens.len());
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        for part in order.chunks(ROWS) {
            self.run(&mut session, part, rows, &mut answers)?;
        }
        Ok(answers
            .into_iter()
            .map(|answer| answer.expect("every row is in one part of the order"))
            .collect())
    }

    fn run(
        &self,
        session: &mut Session,
        part: &[usize],
        rows: &[Row],
        answers: &mut [Option<Answer>],
    ) -> Result<(), ModelError> {
        let filled = |of: fn(&Row) -> &[i32], with: i32| {
            let width = part.iter().map(|at| of(&rows[*at]).len()).max();
            let width = width.unwrap_or(0).max(1);
            let mut table = vec![with; part.len() * width];
            for (at, place) in part.iter().zip(table.chunks_exact_mut(width)) {
                let row = of(&rows[*at]);
                place[..row.len()].copy_from_slice(row);
            }
            (table, width)
        };
        let none = i32::try_from(self.vocabulary.len()).unwrap_or(i32::MAX);
        let (tokens, token_width) = filled(|row| &row.tokens, BUCKETS as i32);
        let (words, word_width) = filled(|row| &row.words, none);
        let (groups, _) = filled(|row| &row.groups, 0);
        let tensor = |table, width| {
            TensorRef::from_array_view(([part.len(), width], table)).map_err(runtime)
        };
        let outputs = session
            .run(ort::inputs![
                "tokens" => tensor(&*tokens, token_width)?,
                "words" => tensor(&*words, word_width)?,
                "groups" => tensor(&*groups, word_width)?,
            ])
            .map_err(runtime)?;
        let extract = |name: &str| {
            let (_, found) = outputs[name].try_extract_tensor::<f32>().map_err(runtime)?;
            Ok::<_, ModelError>(found)
        };
        let (probabilities, embeddings) = (extract("probabilities")?, extract("embedding")?);
        let labels = self.facts.labels.len();
        if probabilities.len() != part.len() * labels {
            return Err(ModelError::Shape {
                found: probabilities.len(),
                rows: part.len(),
                labels,
            });
        }
        let width = embeddings.len() / part.len();
        if width == 0 || embeddings.len() != width * part.len() {
            return Err(ModelError::Embedding(format!(
                "{} numbers for {} webhooks",
                embeddings.len(),
                part.len()
            )));
        }
        let both = probabilities
            .chunks_exact(labels)
            .zip(embeddings.chunks_exact(width));
        for (at, (probabilities, embedding)) in part.iter().zip(both) {
            answers[*at] = Some(Answer {
                probabilities: probabilities.to_vec(),
                embedding: embedding.to_vec(),
            });
        }
        Ok(())
    }
}

impl Facts {
    fn read(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn check(&self) -> Result<(), ModelError> {
        let ours = Reading {
            scheme: SCHEME,
            buckets: BUCKETS,
            tokens: MAX_TOKENS,
            words: MAX_WORDS,
            groups: GROUPS,
            vocabulary: self.reading.vocabulary,
        };
        if self.reading != ours {
            let why = format!("it has {:?}, this program {ours:?}", self.reading);
            return Err(ModelError::Reading(why));
        }
        let labels = &self.labels;
        let wrong = |why: String| Err(ModelError::Labels(why));
        if let Some(label) = labels.iter().find(|label| !is_category(label)) {
            return wrong(format!("{label:?} is no name of a category"));
        }
        if let Some(at) = (1..labels.len()).find(|at| labels[..*at].contains(&labels[*at])) {
            return wrong(format!("{:?} stands in model.json twice", labels[at]));
        }
        if !labels.iter().any(|label| label == super::OTHER) {
            return wrong(format!("{:?} is missing", super::OTHER));
        }
        if !(0.0..=1.0).contains(&self.threshold) || !(0.0..=1.0).contains(&self.same_event) {
            return wrong("threshold and same_event lie between 0 and 1".to_owned());
        }
        Ok(())
    }
}

/// Categories are names that people can write into routes.
fn is_category(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte)
        })
}

fn checksum(file: &'static str, bytes: &[u8], told: &str) -> Result<(), ModelError> {
    let found = crypto::sha256_hex(bytes);
    if found == told {
        return Ok(());
    }
    let told = told.to_owned();
    Err(ModelError::Checksum { file, found, told })
}

/// ONNX Runtime, which a process can load once: the first library that could be loaded stays.
fn environment(library: &Path) -> Result<&'static Environment, ModelError> {
    static LOADED: OnceLock<Environment> = OnceLock::new();
    static LOADING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = LOADED.get() {
        return Ok(environment);
    }
    let missing = |why: String| ModelError::Library(library.to_path_buf(), why);
    let builder = ort::init_from(library).map_err(|error| missing(error.to_string()))?;
    let environment = builder.build().map_err(runtime)?;
    Ok(LOADED.get_or_init(|| environment))
}

fn session(library: &Path, onnx: &[u8]) -> Result<Session, ModelError> {
    let environment = environment(library)?;
    let session = Session::builder(environment)
        .map_err(runtime)?
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .map_err(runtime)?
        // Batches run beside each other; a batch is too small to be worth sharing out.
        .with_intra_threads(1)
        .map_err(runtime)?
        .commit_from_memory(onnx)
        .map_err(runtime)?;
    let found: Vec<String> = session
        .inputs()
        .iter()
        .map(|input| input.name().to_owned())
        .collect();
    if found.len() != INPUTS.len() || !INPUTS.iter().all(|name| found.iter().any(|f| f == name)) {
        let wanted = INPUTS.to_vec();
        return Err(ModelError::Inputs { found, wanted });
    }
    let found: Vec<String> = session
        .outputs()
        .iter()
        .map(|output| output.name().to_owned())
        .collect();
    if !OUTPUTS.iter().all(|name| found.iter().any(|f| f == name)) {
        let wanted = OUTPUTS.to_vec();
        return Err(ModelError::Outputs { found, wanted });
    }
    Ok(session)
}
