//! `pull`, `push`, `login`, `logout`, `search`: arguments into the engine's requests, results into
//! Docker's lines.

use serde_json::{Value, json};

use crate::cli::args::{Login, Logout, Pull, Push, Search};
use crate::cli::progress::Progress;
use crate::cli::template::rows::Format;
use crate::cli::template::value::Shape;
use crate::cli::terminal;
use crate::engine::host::Host;
use crate::engine::registries::{self, Hit, PullRequest};
use crate::error::{Error, ErrorKind};

/// Largest password, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;
/// Characters of a description that a table shows.
const DESCRIPTION_SHOWN: usize = 45;

/// What Docker calls a line of a search in the errors of templates.
const SEARCH_ROW: Shape = Shape::Struct { name: "*formatter.searchContext", fields: &[] };

/// Pulls an image or a repository.
///
/// # Errors
/// What the registry, the image or the store has against it.
pub fn pull(host: &Host, args: &Pull) -> Result<(), Error> {
    let progress = Progress::new(args.quiet);
    if !args.quiet && !args.all_tags && registries::means_latest(&args.name) {
        terminal::to_stdout("Using default tag: latest\n")?;
    }
    let (name, platform) = (args.name.clone(), args.platform.clone());
    let request = PullRequest { name, all_tags: args.all_tags, platform };
    let mut warn = |text: &str| terminal::print_warning(text);
    let full = registries::pull(host, &request, &|event| progress.show(event), &mut warn)?;
    terminal::to_stdout(&format!("{full}\n"))
}

/// Pushes an image or a repository.
///
/// # Errors
/// What the registry or the store has against it.
pub fn push(host: &Host, args: &Push) -> Result<(), Error> {
    let progress = Progress::new(args.quiet);
    if !args.quiet && !args.all_tags && registries::means_latest(&args.name) {
        terminal::to_stdout("Using default tag: latest\n")?;
    }
    let full = registries::push(host, &args.name, args.all_tags, &|event| progress.show(event))?;
    if args.quiet { terminal::to_stdout(&format!("{full}\n")) } else { Ok(()) }
}

/// Logs in, with what was typed, with what is kept, or with what a person answers.
///
/// # Errors
/// When the registry does not accept it.
pub fn login(host: &Host, args: &Login) -> Result<(), Error> {
    let registry = registries::registry_name(args.server.as_deref())?;
    let usage = |text: &str| Error::new(ErrorKind::Usage, text);
    let password = match (&args.password, args.password_stdin) {
        (Some(_), true) => return Err(usage("--password and --password-stdin are mutually exclusive")),
        (Some(password), false) => {
            terminal::to_stderr("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
            Some(password.clone())
        }
        (None, true) if args.username.is_none() => {
            return Err(usage("Must provide --username with --password-stdin"));
        }
        (None, true) => {
            let text = terminal::read_stdin(PASSWORD_BYTES_MAX)?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (None, false) => None,
    };
    if args.username.is_none() && password.is_none() && registries::known_user(host, &registry)?.is_some() {
        terminal::to_stdout("Authenticating with existing credentials...\n")?;
        match registries::login(host, &registry, None) {
            Ok(_) => return terminal::to_stdout("Login Succeeded\n"),
            Err(error) if error.kind == ErrorKind::Denied && terminal::is_interactive() => {
                terminal::print_error(&error)
            }
            Err(error) => return Err(error),
        }
    }
    let missing = |what: &str| {
        let error = usage(&format!("no {what} was given, and there is no terminal to ask at"));
        error.hint("`cuddy login -u USER --password-stdin HOST < FILE`")
    };
    let user = match &args.username {
        Some(user) => user.clone(),
        None if terminal::is_interactive() => terminal::ask("Username: ")?,
        None => return Err(missing("user name")),
    };
    let password = match password {
        Some(password) => password,
        None if terminal::is_interactive() => terminal::ask_secret("Password: ")?,
        None => return Err(missing("password")),
    };
    if user.is_empty() || password.is_empty() {
        return Err(usage("a user name and a password are needed"));
    }
    let kept = registries::login(host, &registry, Some((user, password)))?;
    if kept.is_readable {
        terminal::to_stderr(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning: `credsStore` in that file.\n",
            kept.path.display()
        ));
    }
    terminal::to_stdout("Login Succeeded\n")
}

/// Forgets a login.
///
/// # Errors
/// What is wrong with the file of credentials.
pub fn logout(host: &Host, args: &Logout) -> Result<(), Error> {
    let registry = registries::registry_name(args.server.as_deref())?;
    let shown = if registry == "docker.io" { "https://index.docker.io/v1/" } else { &registry };
    let text = match registries::logout(host, &registry)? {
        true => format!("Removing login credentials for {shown}\n"),
        false => format!("Not logged in to {shown}\n"),
    };
    terminal::to_stdout(&text)
}

/// Searches a registry.
///
/// # Errors
/// Where the registry has no search.
pub fn search(host: &Host, args: &Search) -> Result<(), Error> {
    if !(1..=100).contains(&args.limit) {
        let text = format!("limit {} is outside the range of [1, 100]", args.limit);
        return Err(Error::new(ErrorKind::Usage, text));
    }
    let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mut hits = registries::search(host, &args.term, args.limit)?;
    hits.retain(|hit| filters.iter().all(|filter| filter.takes(hit)));
    hits.sort_by_key(|hit| std::cmp::Reverse(hit.star_count));
    let columns = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
    let format = Format::parse(args.format.as_deref(), columns)?;
    let is_json = matches!(format, Format::Json);
    let rows: Vec<Value> = hits.iter().map(|hit| search_row(hit, args.no_trunc, is_json)).collect();
    let titles = json!({
        "Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL",
        "IsAutomated": "AUTOMATED",
    });
    terminal::to_stdout(&format.print(&rows, &titles, SEARCH_ROW)?)
}

fn search_row(hit: &Hit, is_whole: bool, is_json: bool) -> Value {
    // Anyone can write a description; JSON escapes it.
    let clean = |text: &str| if is_json { text.to_owned() } else { terminal::harmless(text) };
    let mut description = clean(&hit.description.replace(['\n', '\r', '\t'], " "));
    if !is_whole && description.chars().count() > DESCRIPTION_SHOWN {
        description = description.chars().take(DESCRIPTION_SHOWN - 1).collect::<String>() + "…";
    }
    let mark = |is: bool| if is { "[OK]" } else { "" };
    json!({
        "Name": clean(&hit.name),
        "Description": description,
        "StarCount": hit.star_count.to_string(),
        "IsOfficial": if is_json { hit.is_official.to_string() } else { mark(hit.is_official).to_owned() },
        "IsAutomated": if is_json { "false" } else { "" },
    })
}

/// `--filter` of `search`.
enum Filter {
    Stars(u64),
    Official(bool),
    Automated(bool),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let error = Error::new(ErrorKind::Usage, format!("invalid filter '{text}'"));
            error.hint("`stars=NUMBER` and `is-official=true` are filters")
        };
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        match name {
            "stars" => value.parse().map(Self::Stars).map_err(|_unsaid| wrong()),
            "is-official" => value.parse().map(Self::Official).map_err(|_unsaid| wrong()),
            "is-automated" => value.parse().map(Self::Automated).map_err(|_unsaid| wrong()),
            _ => Err(wrong()),
        }
    }

    fn takes(&self, hit: &Hit) -> bool {
        match self {
            Self::Stars(stars) => hit.star_count >= *stars,
            Self::Official(is) => hit.is_official == *is,
            // Docker's registry marks none so any more.
            Self::Automated(is) => !is,
        }
    }
}
