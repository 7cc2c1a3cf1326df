//! Lexical selection on a submission several times the judge's window.

use tribunal_evidence::{Document, Index, Tokenizer, Vocabulary, rank_files, select};

/// What each file of the submission is about: name, words of its code, and a criterion for it that
/// does not name the file.
const TOPICS: [(&str, &str, &str); 8] = [
    (
        "models/encoder.py",
        "patch_embed positional attention_heads",
        "The encoder uses positional embeddings and multiple attention heads over patches.",
    ),
    (
        "losses/contrast.py",
        "temperature logits cosine_similarity",
        "A contrastive loss over cosine similarities, divided by a temperature, is implemented.",
    ),
    (
        "data/augment.py",
        "random_crop horizontal_flip color_jitter",
        "Images are augmented by random crops, horizontal flips and color jitter.",
    ),
    (
        "optim/schedule.py",
        "warmup_steps cosine_decay learning_rate",
        "The learning rate is warmed up and then decays as a cosine.",
    ),
    (
        "eval/retrieval.py",
        "recall_at_k ranking gallery",
        "Recall at k is computed over the ranked gallery.",
    ),
    (
        "train/ema.py",
        "shadow_params momentum_update teacher",
        "The teacher's parameters are a momentum average of the student's.",
    ),
    (
        "utils/checkpoint.py",
        "state_dict resume_from save_every",
        "Training can be resumed from saved checkpoints of the state.",
    ),
    (
        "baselines/kmeans.py",
        "centroids assign_clusters inertia",
        "A k-means baseline assigns points to the nearest centroids.",
    ),
];

/// A file of about 3,000 tokens: filler that all files share, and its topic in the middle.
fn source(words: &str, salt: usize) -> String {
    let filler = |n: usize| {
        format!(
            "def helper_{n}(config, value):\n    result = config.get(value, {n})\n    return result\n"
        )
    };
    let begin: String = (0..60).map(|n| filler(n + salt)).collect();
    let topic: String =
        words.split(' ').map(|w| format!("def compute_{w}(x):\n    return {w}(x)\n")).collect();
    format!("{begin}{topic}{begin}")
}

#[test]
fn the_file_of_the_criterion_is_selected() {
    let tokenizer = Vocabulary::named("o200k_base").expect("embedded");
    let mut documents: Vec<Document> = TOPICS
        .iter()
        .enumerate()
        .map(|(n, (path, words, _))| Document {
            path: (*path).to_owned(),
            text: source(words, n),
            tokens: None,
        })
        .collect();
    documents.extend((0..24).map(|n| Document {
        path: format!("misc/module_{n:02}.py"),
        text: source("noise other thing", 100 * n),
        tokens: None,
    }));
    let index = Index::new(documents, &tokenizer);
    let window = 16_000;
    assert!(index.tokens() > 5 * window, "{}", index.tokens());
    for (path, words, criterion) in TOPICS {
        let ranked = rank_files(criterion, &index);
        assert_eq!(index.documents()[ranked[0].0].path, path, "{criterion}");
        let selection = select(criterion, &index, window, &tokenizer);
        assert!(selection.tokens <= window && !selection.fits);
        let shown = &selection.files[0];
        assert!(index.documents()[shown.file].path == path && shown.whole, "{criterion}");
        // Where not even one file fits, the part that counts is shown.
        let small = select(criterion, &index, 2_400, &tokenizer);
        let shown = &small.files[0];
        let word = words.split(' ').next().expect("words");
        assert!(
            !shown.whole && shown.text.contains(&format!("def compute_{word}(x)")),
            "{criterion}"
        );
        assert!(tokenizer.count(&shown.text) <= 2_400);
    }
}
