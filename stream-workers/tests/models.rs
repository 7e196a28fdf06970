//! The model directory that comes with the program, through ONNX Runtime: what is refused and with which words,
//! what users teach, shadows and changes, and bodies that nobody would send.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use router_runtime::crypto::sha256_hex;
use router_schemas::{
    Classification, EventId, KnowledgeId, ProjectId, SourceId,
    config::{Condition, CorrectionConfig, Field, LabelConfig, ModelConfig, RuleConfig, Test},
    processed::DecidedBy,
};
use serde_json::{Value, json};
use stream_workers::{
    classify::{
        Classifier, Model, ModelError, Models, Rule, Rules, Webhook, example, explain, library,
        model_dir,
    },
    directory::Tables,
    headers::SenderHeaders,
};

/// None, with a message that the test was skipped, where ONNX Runtime is not installed.
fn runtime() -> Option<PathBuf> {
    match library() {
        Ok(path) => Some(path),
        Err(error) if std::env::var_os("ROUTER_REQUIRE_ORT").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

/// A copy of the model directory that may be broken.
struct Copy(PathBuf);

impl Copy {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("router-model-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&dir).unwrap();
        copy(&model_dir().unwrap(), &dir);
        Self(dir)
    }
    fn facts(&self) -> Value {
        serde_json::from_slice(&fs::read(self.0.join("model.json")).unwrap()).unwrap()
    }
    fn set_facts(&self, facts: &Value) {
        fs::write(self.0.join("model.json"), facts.to_string()).unwrap();
    }
    /// Writes other bytes into `model.onnx`, and their checksum where it shall fit.
    fn set_onnx(&self, onnx: &[u8], checksum_fits: bool) {
        fs::write(self.0.join("model.onnx"), onnx).unwrap();
        if checksum_fits {
            let mut facts = self.facts();
            facts["sha256"]["onnx"] = json!(sha256_hex(onnx));
            self.set_facts(&facts);
        }
    }
    fn refused(&self, library: &Path) -> ModelError {
        Model::load(library, &self.0).expect_err("it should be refused")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn copy(from: &Path, to: &Path) {
    for name in ["model.onnx", "model.json", "vocabulary.txt", "cases.jsonl"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if &bytes[at..at + from.len()] == from {
            bytes[at..at + from.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
    bytes
}

const SOURCE: SourceId = SourceId(uuid::Uuid::nil());

fn classify(classifier: &Classifier, tables: &Tables, body: &[u8]) -> Classification {
    let headers = SenderHeaders::default();
    let document = serde_json::from_slice(body).ok();
    let webhook = Webhook {
        project_id: ProjectId::DEFAULT,
        source_id: SOURCE,
        headers: &headers,
        content_type: Some("application/json"),
        body,
        document: document.as_ref(),
    };
    classifier.classify(tables, &[webhook]).unwrap().remove(0)
}

#[test]
fn the_model_that_comes_along_answers_and_explains_itself() {
    let Some(library) = runtime() else { return };
    let models = Models::load(&library, &model_dir().unwrap(), &ModelConfig::default()).unwrap();
    let model = models.in_force().current.clone();
    assert_eq!(model.labels(), router_schemas::CATEGORIES);
    let body = br#"{"type":"invoice.payment_failed","data":{"object":{"amount_due":4200,"currency":"eur","customer_email":"a@example.com"}}}"#;
    let explained = explain(&model, &SenderHeaders::default(), None, body, 5).unwrap();
    assert_eq!(explained.len(), 5);
    let invoice = explained
        .iter()
        .find(|weight| weight.token.contains("invoice"));
    assert!(
        invoice.is_some_and(|weight| weight.weight > 0.0),
        "{explained:?}"
    );
    let answer = classify(&Classifier::new(models), &Tables::default(), body);
    assert_eq!(
        (&*answer.category, answer.decided_by),
        ("billing", DecidedBy::Model)
    );
    assert!(
        answer.confidence > 0.7 && answer.runner_up.is_some(),
        "{answer:?}"
    );
}

#[test]
fn a_damaged_or_foreign_model_is_refused_with_the_reason() {
    let Some(library) = runtime() else { return };
    let copy = Copy::new();
    let onnx = fs::read(copy.0.join("model.onnx")).unwrap();

    let mut flipped = onnx.clone();
    flipped[onnx.len() / 2] ^= 1;
    copy.set_onnx(&flipped, false);
    assert!(matches!(
        copy.refused(&library),
        ModelError::Checksum {
            file: "model.onnx",
            ..
        }
    ));

    copy.set_onnx(&onnx[..onnx.len() / 2], true);
    assert!(matches!(copy.refused(&library), ModelError::Runtime(_)));
    copy.set_onnx(b"not a model", true);
    assert!(matches!(copy.refused(&library), ModelError::Runtime(_)));

    copy.set_onnx(&replaced(&onnx, b"\x06groups", b"\x06planet"), true);
    let error = copy.refused(&library);
    assert!(error.to_string().contains("planet"), "{error}");
    assert!(matches!(error, ModelError::Inputs { .. }), "{error}");

    copy.set_onnx(
        &replaced(&onnx, b"\x0dprobabilities", b"\x0dpossibilities"),
        true,
    );
    assert!(matches!(copy.refused(&library), ModelError::Outputs { .. }));

    copy.set_onnx(&onnx, true);
    Model::load(&library, &copy.0).expect("it is whole again");
}

#[test]
fn other_labels_another_reading_and_wrong_cases_are_refused() {
    let Some(library) = runtime() else { return };
    let copy = Copy::new();
    let facts = copy.facts();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = facts.clone();
        change(&mut changed);
        copy.set_facts(&changed);
        copy.refused(&library)
    };
    let labels = |error: &ModelError| matches!(error, ModelError::Labels(_));
    assert!(labels(&with(&|f| f["labels"][0] = f["labels"][1].clone())));
    assert!(labels(&with(&|f| f["labels"][13] = json!("Not a name!"))));
    assert!(
        labels(&with(&|f| f["labels"][13] = json!("rest"))),
        "`other` is missing"
    );
    let error = with(&|f| drop(f["labels"].as_array_mut().unwrap().remove(0)));
    assert!(
        matches!(error, ModelError::Shape { labels: 13, .. }),
        "{error}"
    );
    let error = with(&|f| f["labels"].as_array_mut().unwrap().swap(0, 2));
    assert!(matches!(error, ModelError::Case { .. }), "{error}");
    let error = with(&|f| f["reading"]["scheme"] = json!(1));
    assert!(error.to_string().contains("make train"), "{error}");
    copy.set_facts(&facts);
    fs::write(copy.0.join("vocabulary.txt"), "a\nb\n").unwrap();
    assert!(matches!(
        copy.refused(&library),
        ModelError::Checksum {
            file: "vocabulary.txt",
            ..
        }
    ));
    fs::remove_file(copy.0.join("model.onnx")).unwrap();
    assert!(matches!(copy.refused(&library), ModelError::File(..)));
}

#[test]
fn without_onnx_runtime_the_error_says_what_to_do() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stream-workers"))
        .args(["classify", "--input", "/dev/null"])
        .env("ORT_DYLIB_PATH", "/nonexistent/libonnxruntime.so")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for wanted in [
        "/nonexistent/libonnxruntime.so",
        "make up",
        "pip install onnxruntime",
        "CLASSIFIER=rules",
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
}

/// What `classify` writes for lines, and whether it says that all went well.
fn classified(lines: &[u8]) -> (Vec<Value>, bool) {
    let dir = std::env::temp_dir().join(format!("router-lines-{}", uuid::Uuid::now_v7()));
    fs::write(&dir, lines).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stream-workers"))
        .args(["classify", "--explain", "--tokens", "3", "--input"])
        .arg(&dir)
        .output()
        .unwrap();
    fs::remove_file(&dir).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (answers, output.status.success())
}

#[test]
fn each_line_of_a_file_has_an_answer_of_its_own() {
    if runtime().is_none() {
        return;
    }
    let lines = b"\xef\xbb\xbf{\"id\":7,\"headers\":null,\"body\":\"{\\\"type\\\":\\\"invoice.paid\\\"}\"}\r\n\n{bad\n[]\n{\"type\":\"invoice.paid\"}\n\
        {\"id\":\"b\",\"headers\":{\"X-GitHub-Event\":\"push\"},\"body\":\"\"}";
    let (answers, well) = classified(lines);
    assert!(!well);
    assert_eq!(answers.len(), 5, "{answers:?}");
    assert_eq!(
        (&answers[0]["id"], &answers[0]["category"]),
        (&json!(7), &json!("billing"))
    );
    assert_eq!(answers[0]["tokens"].as_array().unwrap().len(), 3);
    for (answer, line) in [(1, 3), (2, 4), (3, 5)] {
        assert_eq!(answers[answer]["line"], line);
        assert!(answers[answer]["error"].is_string());
    }
    assert_eq!(
        (&answers[4]["id"], &answers[4]["category"]),
        (&json!("b"), &json!("code"))
    );
    assert_eq!(classified(b""), (Vec::new(), true));
    let directory = std::process::Command::new(env!("CARGO_BIN_EXE_stream-workers"))
        .args(["classify", "--input", env!("CARGO_MANIFEST_DIR")])
        .output()
        .unwrap();
    assert!(!directory.status.success() && directory.stdout.is_empty());
    assert!(String::from_utf8_lossy(&directory.stderr).contains("is a directory"));
}

fn rule(name: &str, when: (Field, Test), category: &str) -> Rule {
    let config = RuleConfig {
        project_id: ProjectId::DEFAULT,
        name: name.into(),
        position: 1,
        sources: Vec::new(),
        conditions: vec![Condition {
            field: when.0,
            test: when.1,
        }],
        category: category.into(),
        disabled: false,
    };
    Rule::compile(KnowledgeId::generate(), config).unwrap()
}

#[test]
fn rules_come_first_and_work_without_a_model() {
    let mut rules = Rules::default();
    let mine = rule(
        "mine",
        (
            Field::Json("/type".into()),
            Test::Equals("invoice.paid".into()),
        ),
        "finance.eu",
    );
    let id = mine.id;
    rules.set(id, Some(mine));
    let mut tables = Tables::default();
    tables.rules.insert(ProjectId::DEFAULT, Arc::new(rules));
    let without = Classifier::rules_alone();
    let answer = classify(&without, &tables, br#"{"type":"invoice.paid"}"#);
    assert_eq!(
        (&*answer.category, answer.decided_by),
        ("finance.eu", DecidedBy::Rule)
    );
    assert_eq!((answer.decided_id, answer.confidence), (Some(id), 1.0));
    let answer = classify(&without, &tables, br#"{"type":"invoice.void"}"#);
    assert_eq!(
        (&*answer.category, answer.decided_by),
        ("other", DecidedBy::Nothing)
    );
    let Some(library) = runtime() else { return };
    let with = Classifier::new(
        Models::load(&library, &model_dir().unwrap(), &ModelConfig::default()).unwrap(),
    );
    let answer = classify(&with, &tables, br#"{"type":"invoice.paid"}"#);
    assert_eq!(answer.decided_by, DecidedBy::Rule);
    assert_eq!(
        classify(&with, &tables, br#"{"type":"invoice.voided"}"#).category,
        "billing"
    );
}

/// A door event of a building, varied as such events vary.
fn door(n: u32) -> Vec<u8> {
    json!({"kind": "door.forced", "door": {"id": format!("d-{n}"), "floor": n % 7, "zone": "north"},
        "at": format!("2026-01-{:02}T10:00:{:02}Z", n % 28 + 1, n % 60), "badge": null, "sensor_battery": n % 100})
    .to_string()
    .into_bytes()
}

fn elevator(n: u32) -> Vec<u8> {
    json!({"kind": "elevator.serviced", "lift": {"id": format!("l-{n}"), "floor": n % 7, "zone": "south"},
        "technician": "Mara", "at": format!("2026-02-{:02}T09:00:00Z", n % 28 + 1)})
    .to_string()
    .into_bytes()
}

fn shown(body: &[u8]) -> router_schemas::config::Example {
    example(&SenderHeaders::default(), Some("application/json"), body)
}

#[test]
fn the_next_event_like_a_corrected_one_is_right_and_no_other() {
    let Some(library) = runtime() else { return };
    let classifier = Classifier::new(
        Models::load(&library, &model_dir().unwrap(), &ModelConfig::default()).unwrap(),
    );
    let mut tables = Tables::default();
    let before = classify(&classifier, &tables, &door(1));
    let id = KnowledgeId::generate();
    let correction = CorrectionConfig {
        project_id: ProjectId::DEFAULT,
        source_id: SOURCE,
        event_id: EventId::generate(),
        category: "facility".into(),
        instead_of: Some(before.category.clone()),
        example: shown(&door(1)),
    };
    tables.corrections.insert(
        ProjectId::DEFAULT,
        Arc::new(BTreeMap::from([(id, Arc::new(correction))])),
    );
    for n in 2..40 {
        let answer = classify(&classifier, &tables, &door(n));
        assert_eq!(
            (&*answer.category, answer.decided_by),
            ("facility", DecidedBy::Correction),
            "{n}: {answer:?}"
        );
        assert_eq!(answer.decided_id, Some(id));
        assert_eq!(answer.runner_up.unwrap().category, before.category);
    }
    let opened = String::from_utf8(door(3))
        .unwrap()
        .replace("door.forced", "door.opened");
    for other in [
        opened.into_bytes(),
        elevator(1),
        br#"{"type":"invoice.paid","amount":1}"#.to_vec(),
        br#"{"action":"opened","pull_request":{"title":"x"}}"#.to_vec(),
    ] {
        assert_ne!(
            classify(&classifier, &tables, &other).decided_by,
            DecidedBy::Correction
        );
    }
}

#[test]
fn what_one_project_teaches_is_nothing_to_another() {
    let Some(library) = runtime() else { return };
    let models = Models::load(&library, &model_dir().unwrap(), &ModelConfig::default()).unwrap();
    let classifier = Classifier::new(models);
    let theirs = ProjectId::generate();
    let mut tables = Tables::default();
    let correction = CorrectionConfig {
        project_id: theirs,
        source_id: SOURCE,
        event_id: EventId::generate(),
        category: "theirs".into(),
        instead_of: None,
        example: shown(&door(1)),
    };
    let label = LabelConfig {
        project_id: theirs,
        name: "also_theirs".into(),
        examples: vec![shown(&elevator(1))],
        threshold: None,
        disabled: false,
    };
    let id = KnowledgeId::generate();
    tables.corrections.insert(
        theirs,
        Arc::new(BTreeMap::from([(id, Arc::new(correction))])),
    );
    tables
        .labels
        .insert(theirs, Arc::new(BTreeMap::from([(id, Arc::new(label))])));
    let mut rules = Rules::default();
    let rule = rule(
        "theirs",
        (Field::Json("/type".into()), Test::Exists(true)),
        "ruled",
    );
    rules.set(rule.id, Some(rule));
    tables.rules.insert(theirs, Arc::new(rules));
    for body in [door(1), elevator(1), br#"{"type":"invoice.paid"}"#.to_vec()] {
        let answer = classify(&classifier, &tables, &body);
        assert!(
            matches!(answer.decided_by, DecidedBy::Model | DecidedBy::Threshold),
            "{answer:?}"
        );
    }
}

#[test]
fn labels_of_ones_own_are_learnt_from_a_few_examples() {
    let Some(library) = runtime() else { return };
    let classifier = Classifier::new(
        Models::load(&library, &model_dir().unwrap(), &ModelConfig::default()).unwrap(),
    );
    let mut tables = Tables::default();
    let label = |name: &str, bodies: &[Vec<u8>]| LabelConfig {
        project_id: ProjectId::DEFAULT,
        name: name.into(),
        examples: bodies.iter().map(|body| shown(body)).collect(),
        threshold: None,
        disabled: false,
    };
    let labels = [
        label("doors", &[door(1), door(2), door(3)]),
        label("lifts", &[elevator(1), elevator(2), elevator(3)]),
    ];
    let labels = labels
        .into_iter()
        .map(|label| (KnowledgeId::generate(), Arc::new(label)));
    tables
        .labels
        .insert(ProjectId::DEFAULT, Arc::new(labels.collect()));
    for n in 10..40 {
        let doors = classify(&classifier, &tables, &door(n));
        assert_eq!(
            (&*doors.category, doors.decided_by),
            ("doors", DecidedBy::Label),
            "{doors:?}"
        );
        assert_eq!(
            classify(&classifier, &tables, &elevator(n)).category,
            "lifts"
        );
    }
    let foreign = classify(
        &classifier,
        &tables,
        br#"{"type":"invoice.paid","amount_due":4200}"#,
    );
    assert_eq!(
        (&*foreign.category, foreign.decided_by),
        ("billing", DecidedBy::Model)
    );
}

#[test]
fn models_are_shadowed_promoted_and_refused_while_others_go_on_answering() {
    let Some(library) = runtime() else { return };
    let home = Copy::new();
    let next = home.0.join("next");
    fs::create_dir(&next).unwrap();
    copy(&home.0, &next);
    // A model that calls billing code and code billing, and is proud of it.
    let mut facts = home.facts();
    facts["version"] = json!("next");
    facts["labels"].as_array_mut().unwrap().swap(0, 2);
    fs::write(next.join("model.json"), facts.to_string()).unwrap();
    let swapped: String = fs::read_to_string(next.join("cases.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let mut case: Value = serde_json::from_str(line).unwrap();
            case["category"] = match case["category"].as_str().unwrap() {
                "billing" => json!("code"),
                "code" => json!("billing"),
                same => json!(same),
            };
            format!("{case}\n")
        })
        .collect();
    fs::write(next.join("cases.jsonl"), swapped).unwrap();

    let models = Models::load(&library, &home.0, &ModelConfig::default()).unwrap();
    let version = models.in_force().current.version().to_owned();
    let classifier = Classifier::new(models);
    let body = br#"{"type":"invoice.paid","amount_due":4200,"currency":"eur"}"#;
    let tables = Tables::default();
    let with = |model: ModelConfig, all: bool| {
        assert_eq!(classifier.follow(&model), all, "{model:?}");
        classify(&classifier, &tables, body)
    };
    let named = |current: Option<&str>, shadow: Option<&str>| ModelConfig {
        current: current.map(ToOwned::to_owned),
        shadow: shadow.map(ToOwned::to_owned),
    };
    let answer = with(named(None, Some("next")), true);
    assert_eq!(
        (&*answer.category, &answer.model_version),
        ("billing", &version)
    );
    let shadow = answer.shadow.unwrap();
    assert_eq!(
        (&*shadow.category, &*shadow.model_version),
        ("code", "next")
    );
    // What is loaded under a name stays, whatever becomes of its directory.
    fs::write(next.join("model.json"), "{}").unwrap();
    let answer = with(named(Some("next"), None), true);
    assert_eq!(
        (&*answer.category, &*answer.model_version, answer.shadow),
        ("code", "next", None)
    );
    // A model that is not there, or has no name, changes nothing; it is not tried again at once.
    for missing in ["missing", "missing", "../next", ".."] {
        assert_eq!(
            with(named(Some(missing), None), false).model_version,
            "next"
        );
    }
    // A shadow that cannot be had does not keep the current model from coming.
    let answer = with(named(None, Some("missing")), false);
    assert_eq!((&answer.model_version, answer.shadow), (&version, None));
    // A process that starts has the models that are wanted from its first webhook on, or the one it came with.
    let wanted = |current| Models::load(&library, &home.0, &named(Some(current), None)).unwrap();
    assert_eq!(wanted("missing").in_force().current.version(), version);
    facts["version"] = json!("later");
    fs::write(next.join("model.json"), facts.to_string()).unwrap();
    assert_eq!(wanted("next").in_force().current.version(), "later");
}

#[test]
fn bodies_that_nobody_would_send_are_classified_quickly() {
    let Some(library) = runtime() else { return };
    let classifier = Classifier::new(
        Models::load(&library, &model_dir().unwrap(), &ModelConfig::default()).unwrap(),
    );
    let tables = Tables::default();
    let keys: Vec<String> = (0..100_000).map(|n| format!("\"key_{n}\":{n}")).collect();
    let bodies: [Vec<u8>; 14] = [
        Vec::new(),
        (0..=255).cycle().take(4_096).collect(),
        br#"{"type":"invoice.paid","data":{"amou"#.to_vec(),
        b"[".repeat(10_000),
        b"{\"a\":".repeat(10_000),
        format!("{{{}}}", keys.join(",")).into_bytes(),
        format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20)).into_bytes(),
        b"{\"type\":\"\xff\xfe\xfd\",\"name\":\"\xc3\x28\"}".to_vec(),
        "{\"事件\":\"支付成功\",\"金额\":100}".into(),
        "{\"حدث\":\"تم الدفع\"}".into(),
        "{\"🎉\":\"🎉🎉\"}".into(),
        b"&&&===%%%".to_vec(),
        b"<a><b><c".to_vec(),
        b"\0\0\0\0".to_vec(),
    ];
    for body in &bodies {
        let began = Instant::now();
        let answer = {
            let headers = SenderHeaders::default();
            let webhook = Webhook {
                project_id: ProjectId::DEFAULT,
                source_id: SOURCE,
                headers: &headers,
                content_type: None,
                body,
                document: None,
            };
            classifier.classify(&tables, &[webhook]).unwrap().remove(0)
        };
        assert!((0.0..=1.0).contains(&answer.confidence));
        assert!(
            began.elapsed() < Duration::from_millis(50),
            "{:?} for {} bytes",
            began.elapsed(),
            body.len()
        );
    }
    // Nothing to go by is nothing to be sure of, and what was first is not named twice.
    let empty = classify(&classifier, &tables, b"");
    assert_eq!(empty.category, "other", "{empty:?}");
    assert_ne!(empty.runner_up.unwrap().category, "other");
}
