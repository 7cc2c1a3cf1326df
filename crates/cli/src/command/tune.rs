//! `tribunal tune`: candidates raced on labelled leaves, and one test of the winner.
//!
//! Owns the arguments, the order of the steps, what is refused, and the exit code. What is asked next
//! and what the answers say is `tribunal_tune`'s.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use tribunal_collector::check_writable;
use tribunal_core::ids::FieldHasher;
use tribunal_tune::{
    Labels, Rules, Split, Table,
    document::{Projection, Sealed, TuneDocument, TuneState},
    noise::Visible,
    power::Rates,
};
use tribunal_worker::{ResolveEndpoints as _, consult::Consultant};

use crate::{
    args::{JudgeArgs, OptionArgs, PoolArgs, StoreArgs},
    budget::{Limit, UsDollars},
    command::Context,
    config::judge::ResolvedJudge,
    engine::{self, Endpoints, Signalled},
    exit::Exit,
    output::{self, counted},
    prepare,
    progress::note,
    tune::{
        bench::Bench,
        candidates::{self, Candidate, Common, Factor},
        drafts::Stores,
        files, labels,
        ledger::Ledger,
        proposals::Proposals,
        text,
    },
};

mod announce;
mod end;
mod steps;

/// Arguments of `tribunal tune`.
#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    /// Submissions that humans graded: a folder with a folder for each, or a TOML file with a table `tree` each
    #[arg(long, value_name = "DIR|FILE.toml")]
    labels: PathBuf,
    /// Prompt sets, built-in names or folders; the first one is the baseline
    #[arg(long, value_name = "SET", num_args = 1.., required = true)]
    prompts: Vec<String>,
    /// Values of a factor to be tried beside the configured one, such as max_prior_nodes=5,all; several
    /// factors span a grid. KEY is judge, model, reasoning_effort, selection, token_budget,
    /// max_prior_nodes, samples or require_evidence
    #[arg(long = "factor", value_name = "KEY=VALUE,…")]
    factors: Vec<Factor>,
    /// Have N more prompts proposed from what is wrong on train papers
    #[arg(long, value_name = "N", default_value_t = 0, requires = "proposer")]
    propose: usize,
    /// The judge of the config that proposes
    #[arg(long, value_name = "JUDGE", requires = "propose")]
    proposer: Option<String>,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pool: PoolArgs,
    /// Grade Code Development leaves only
    #[arg(long)]
    code_only: bool,
    /// Spend at most so many US dollars on all runs of the tuning, or `none` for no limit; a larger one goes
    /// on with what a smaller one left
    #[arg(long, value_name = "USD|none")]
    budget: Option<Limit<UsDollars>>,
    /// The improvement that is to be seen, in points of the objective; refused where the test leaves
    /// cannot show it
    #[arg(long, value_name = "POINTS", value_parser = points)]
    target_effect: Option<f64>,
    /// How much of any category's specificity a candidate may lose, in points
    #[arg(long, value_name = "POINTS", value_parser = points, default_value = "10")]
    max_specificity_loss: f64,
    /// How many times the baseline's cost a candidate may cost
    #[arg(long, value_name = "N", value_parser = ratio, allow_negative_numbers = true)]
    max_cost_ratio: Option<f64>,
    /// How often the baseline is asked about the same leaves, to know its own flips
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=25))]
    repeats: u32,
    /// Seed of the split and of every draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Go on though the wanted effect cannot be seen
    #[arg(long)]
    force: bool,
    /// Look at a test set again that another comparison was tested on
    #[arg(long)]
    burn_test: bool,
    /// Say what it would ask and cost, and call nobody
    #[arg(long)]
    plan: bool,
    /// Where the results and the ledger go [default: tribunal-out/tune-LABELS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How many times as much.
fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| *ratio > 0.0 && ratio.is_finite());
    ratio.ok_or_else(|| "give a number above 0, such as 2 or 1.5".to_owned())
}

/// Points of the command line as a share.
fn points(text: &str) -> Result<f64, String> {
    let points = text.parse::<f64>().ok().filter(|points| (0.1..=100.0).contains(points));
    points.map(|points| points / 100.0).ok_or_else(|| "give points from 0.1 to 100".to_owned())
}

/// A tuning that goes on.
struct Tune<'t> {
    args: &'t TuneArgs,
    labels: &'t Labels,
    split: &'t Split,
    rules: Rules,
    /// What is known of the baseline.
    rates: Rates,
    out: &'t Path,
    document: TuneDocument,
    table: Table,
}

/// Runs `tribunal tune`.
///
/// # Errors
///
/// Labels, candidates, the config, the store or the output folder cannot be used, or what is wanted
/// cannot be seen.
pub(crate) async fn run(args: TuneArgs, context: &Context) -> anyhow::Result<Exit> {
    ensure!(
        args.prompts.len() > 1 || !args.factors.is_empty() || args.propose > 0,
        "one candidate alone is no race: name further --prompts, a --factor, or --propose some"
    );
    let flags = [args.store.flags(), args.pool.flags()].concat();
    let config = context.load(&flags)?;
    let common = Common {
        file: context.config.as_deref(),
        flags,
        judge: args.judge.clone(),
        rates: args.pool.rates,
    };
    let options = OptionArgs { code_only: args.code_only, ..OptionArgs::default() };
    let labels::LabelFile { labelled, rates } = labels::read(&args.labels, &options)?;
    let (mut candidates, mut left_out) = common.candidates(&args.prompts, &args.factors)?;
    candidates::distinct_names(&mut candidates)?;
    let proposer = match &args.proposer {
        Some(name) if args.propose > 0 => {
            let judge = JudgeArgs { judge: Some(name.clone()), ..JudgeArgs::default() };
            Some(prepare::judge(&judge, args.pool.rates, &config)?)
        }
        _ => None,
    };
    check_budget(&args, &candidates, proposer.as_ref())?;
    let (shutdown, signalled) = engine::on_signals(config.worker.grace)?;
    let stores = Stores::existing(&config).await?;
    let (baseline, graded) = stores.draft(candidates.remove(0), &labelled).await?;
    let rubrics: Vec<_> = graded.iter().map(|of| of.rubric.clone()).collect();
    let paired = labels::pair(&labelled, &rubrics)?;
    let places: Vec<(usize, u32, bool)> = graded
        .iter()
        .enumerate()
        .flat_map(|(submission, of)| {
            of.rubric
                .leaves()
                .enumerate()
                .map(move |(at, (_, node))| (submission, node.position(), of.by_rule.contains(&at)))
        })
        .collect();
    let labels = Labels::of(&paired, |at| !places[at].2);
    let by_rule = Labels::of(&paired, |at| places[at].2).leaves.len();
    let split = Split::of(&labels, args.propose > 0, args.seed).with_context(|| {
        format!(
            "{} has labels of {}: a prompt that is better on it may not be on another one. Name labels of \
             two papers at least",
            args.labels.display(),
            counted(labels.papers.len(), "paper", "papers")
        )
    })?;
    check_classes(&labels, &split)?;
    let seal = split.seal(&labels);
    let out = match &args.out {
        Some(out) => out.clone(),
        None => Path::new("tribunal-out").join(format!("tune-{}", label_name(&labels))),
    };
    let mut ledger = Ledger::open(&out)?;
    let tuned = |bench: &Bench<'_>| tuning_id(&args, bench, &seal);
    let mut bench = Bench {
        config: &config,
        stores,
        labelled: &labelled,
        shutdown: &shutdown,
        quiet: args.pool.quiet,
        budget: args.budget,
        proposed_usd: 0.0,
        judged: vec![baseline],
        repeated: None,
        places: labels
            .leaves
            .iter()
            .map(|leaf| (places[leaf.source].0, places[leaf.source].1))
            .collect(),
    };
    for candidate in candidates {
        left_out.extend(bench.add(candidate).await?);
    }
    ensure!(
        bench.judged.len() > 1 || args.propose > 0,
        "one candidate alone is no race: {}",
        left_out.join("; ")
    );
    let rules = Rules {
        specificity_loss: args.max_specificity_loss,
        cost_ratio: args.max_cost_ratio,
        ..Rules::default()
    };
    ensure!(
        args.burn_test || args.plan || !ledger.looked_by_others(&seal, &tuned(&bench)),
        "the test set {} was looked at by another tuning: what it says now would no longer be of leaves \
         that nothing was chosen by. Label other papers, or look all the same with --burn-test; the \
         ledger in {} counts it",
        &seal[..12],
        out.display()
    );
    let document = TuneDocument {
        tuning: tuned(&bench),
        state: TuneState::Incomplete,
        ended_by: None,
        simulated: false,
        judge: bench.judged[0].candidate.panel.first.spec.name.clone(),
        leaves: labels.leaves.len(),
        papers: labels.papers.clone(),
        sealed: Sealed {
            looks: ledger.looks(&seal).len(),
            papers: split.test_papers().iter().map(|at| labels.papers[*at].clone()).collect(),
            leaves: labels.of_papers(&split.test_papers()).len(),
            hash: seal,
        },
        split: split.clone(),
        rules,
        seed: args.seed,
        candidates: Vec::new(),
        projection: Projection::default(),
        visible: Visible::of(labels.classes(&labels.of_papers(&split.test_papers())), None),
        power: None,
        power_before: None,
        noise: None,
        races: None,
        winner: None,
        test: None,
        answer: None,
        flips: Vec::new(),
        prompt_diff: Default::default(),
        spent: Default::default(),
        ledger: Default::default(),
        notes: notes(&labels, &split, by_rule).into_iter().chain(left_out).collect(),
        out: out.display().to_string(),
        winning_set: None,
    };
    let table = Table::new(labels.leaves.len());
    let rates = rates.unwrap_or_else(Rates::assumed);
    let mut tune = Tune {
        args: &args,
        labels: &labels,
        split: &split,
        rules,
        rates,
        out: &out,
        document,
        table,
    };
    tune.project(&bench)?;
    if args.plan {
        tune.document.candidates = end::candidates(&bench);
        return show(&tune.document, context).map(|()| Exit::Complete);
    }
    let proposer = match proposer {
        None => None,
        Some(judge) => {
            let known =
                Endpoints::new(config.clone(), vec![judge.clone()]).limited(args.pool.rates);
            let endpoints = known.endpoints(&judge.spec).map_err(anyhow::Error::msg)?;
            Some((judge, endpoints, known))
        }
    };
    // From here on something stays behind.
    check_writable(&out)?;
    let store = bench.stores.open(&config).await?;
    let mut proposals = match proposer {
        None => None,
        Some((judge, endpoints, known)) => {
            let policy = engine::retry_policy(&config);
            let consultant = Consultant::new(judge.spec, endpoints, &store, policy);
            let proposals = Proposals {
                common: &common,
                consultant: consultant.map_err(anyhow::Error::msg)?,
                labels: &labels,
                paired: &paired,
                split: &split,
                out: &out,
                seed: args.seed,
                quiet: args.pool.quiet,
                asked: Vec::new(),
                simulated: false,
            };
            // The simulated judge inside this process lives as long as its endpoints are known.
            Some((proposals, known))
        }
    };
    let own = proposals.as_mut().map(|(proposals, _)| proposals);
    let ended = tune.go_on(&mut bench, own, &mut ledger).await;
    let asked = proposals.map(|(of, _)| (of.asked, of.simulated)).unwrap_or_default();
    if ended.is_err() {
        // What it refuses, it may refuse after it has paid.
        tune.record(&bench, &mut ledger, &asked.0, true).await?;
    }
    let ended = ended?;
    tune.finish(&bench, &mut ledger, asked, &paired, ended.as_ref()).await?;
    store.close().await?;
    show(&tune.document, context)?;
    Ok(exit(&tune.document, &signalled, args.pool.quiet))
}

/// Refuses labels on which a race or the test has no balanced accuracy.
fn check_classes(labels: &Labels, split: &Split) -> anyhow::Result<()> {
    let races = split.folds().into_iter().map(|fold| ("a race", fold.dev));
    for (what, papers) in races.chain([("the test", split.test_papers())]) {
        let (passed, failed) = labels.classes(&labels.of_papers(&papers));
        let names: Vec<&str> = papers.iter().map(|at| labels.papers[*at].as_str()).collect();
        ensure!(
            passed > 0 && failed > 0,
            "of the leaves of {what} ({}) humans passed {passed} and failed {failed}: balanced accuracy needs \
             both. Label submissions that fulfil some criteria and fail others",
            names.join(", ")
        );
    }
    Ok(())
}

fn check_budget(
    args: &TuneArgs,
    candidates: &[Candidate],
    proposer: Option<&ResolvedJudge>,
) -> anyhow::Result<()> {
    let judges = candidates.iter().map(|of| &of.panel.first).chain(proposer);
    for judge in judges.filter(|_| args.budget.and_then(Limit::usd).is_some()) {
        ensure!(
            judge.facts.prices.is_some(),
            "--budget cannot be kept: the price of `{}` is not known. Give it in a file named by \
             run.models (price_input, price_cached and price_output of its entry)",
            judge.facts.model
        );
    }
    Ok(())
}

fn notes(labels: &Labels, split: &Split, by_rule: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if let Split::LeaveOnePaperOut { papers } = split {
        notes.push(format!(
            "{papers} papers are too few to keep some apart: each is the test of a race over the others, \
             and the test is of the way the winner is found"
        ));
    }
    if by_rule > 0 {
        notes.push(match by_rule {
            1 => "1 labelled leaf is decided by a rule, whoever judges, and is left out".to_owned(),
            _ => format!(
                "{by_rule} labelled leaves are decided by a rule, whoever judges, and are left out"
            ),
        });
    }
    let (passed, failed) = labels.classes(&labels.of_papers(&split.test_papers()));
    notes.push(format!("of the test leaves humans passed {passed} and failed {failed}"));
    notes
}

/// What the labels are, whatever is tuned on them.
fn label_name(labels: &Labels) -> String {
    let mut hasher = FieldHasher::new("tribunal.labels/1");
    for leaf in &labels.leaves {
        hasher.field("leaf", leaf.name.as_bytes());
        hasher.field("human", &[u8::from(leaf.human)]);
    }
    hasher.finish().to_string()[..8].to_owned()
}

fn tuning_id(args: &TuneArgs, bench: &Bench<'_>, seal: &str) -> String {
    let mut hasher = FieldHasher::new("tribunal.tuning/1");
    hasher.field("seal", seal.as_bytes());
    hasher.field("seed", &args.seed.to_le_bytes());
    hasher.field("propose", &(args.propose as u64).to_le_bytes());
    for judged in &bench.judged {
        hasher.field("candidate", judged.candidate.identity().as_bytes());
        judged.runs.iter().for_each(|benched| {
            hasher.field("run", benched.run.as_str().as_bytes());
        });
    }
    hasher.finish().to_string()[..16].to_owned()
}

fn show(document: &TuneDocument, context: &Context) -> anyhow::Result<()> {
    if context.json {
        return output::print_json("tune", document);
    }
    output::print_text(&text::summary(document))
}

fn exit(document: &TuneDocument, signalled: &Signalled, quiet: bool) -> Exit {
    if document.state != TuneState::Complete && !quiet {
        note("the same command again goes on where it stopped");
    }
    match document.state {
        TuneState::Complete => Exit::Complete,
        TuneState::Interrupted => signalled.exit().unwrap_or(Exit::Incomplete),
        TuneState::Paused => Exit::Refused,
        TuneState::Incomplete => Exit::Incomplete,
    }
}
