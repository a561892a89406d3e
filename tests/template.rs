//! Go templates: tables of what `text/template` and Docker's documentation say, and the property that
//! any template on any value ends without a panic. There is no Go here to ask: every row is a known
//! fact; but where Docker's own program is, it is asked, for it needs no daemon to show a context.

use cuddy::cli::template::parse::TemplateError;
use cuddy::cli::template::render::{Template, render};
use cuddy::cli::template::value::Shape;
use proptest::prelude::*;
use serde_json::{Value, json};

const LABELS: Shape = Shape::Map(&Shape::Text);
const IMAGE: Shape = Shape::Struct {
    name: "",
    fields: &[
        ("Config", Shape::Struct { name: "*container.Config", fields: CONFIG }),
        ("State", Shape::Struct { name: "", fields: &[("Health", HEALTH)] }),
    ],
};
const CONFIG: &[(&str, Shape)] = &[("Labels", LABELS), ("Env", ENV), ("Healthcheck", Shape::Any)];
const ENV: Shape = Shape::List(&Shape::Text);
const HEALTH: Shape = Shape::Struct { name: "*types.Health", fields: &[] };
const ROW: Shape = Shape::Struct {
    name: "*formatter.imageContext",
    fields: &[("Label", Shape::Lookup), ("Labels", LABELS)],
};

fn image() -> Value {
    json!({
        "Id": "sha256:0123456789abcdef",
        "RepoTags": ["alpine:3", "alpine:latest"],
        "Config": {
            "Labels": {"b.c": "2", "a": "1"},
            "Env": ["PATH=/bin", "A=b"],
            "Cmd": ["/bin/sh", "-c", "echo \"<hi>\""],
            "Volumes": null,
        },
        "State": {"Running": true, "ExitCode": 0, "Health": null},
        "NetworkSettings": {"Ports": {"8080/tcp": [{"HostPort": "80", "HostIp": "0.0.0.0"}]},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "a": {"IPAddress": "10.0.0.1"}}},
        "Size": 7_500_000,
        "Ratio": 1.5,
    })
}

#[track_caller]
fn check(rows: &[(&str, &str)]) {
    let image = image();
    for (template, expected) in rows {
        let found = Template::parse(template).and_then(|parsed| parsed.render(&image, IMAGE));
        let found = found.unwrap_or_else(|wrong| wrong.to_string());
        let prefix = "template parsing error: template: :";
        assert_eq!(found.strip_prefix(prefix).unwrap_or(&found), *expected, "{template}");
    }
}

#[test]
fn what_dockers_documentation_shows_works() {
    check(&[
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "10.0.0.1 172.17.0.2 "),
        (
            "{{range $p, $conf := .NetworkSettings.Ports}} {{$p}} -> {{(index $conf 0).HostPort}} {{end}}",
            " 8080/tcp -> 80 ",
        ),
        ("{{(index (index .NetworkSettings.Ports \"8080/tcp\") 0).HostPort}}", "80"),
        ("{{json .Config.Cmd}}", r#"["/bin/sh","-c","echo \"<hi>\""]"#),
        ("{{join .RepoTags \" , \"}}", "alpine:3 , alpine:latest"),
        ("{{split .Id \":\"}}", "[sha256 0123456789abcdef]"),
        ("{{index (split .Id \":\") 1 | printf \"%.12s\"}}", "0123456789ab"),
        ("{{lower \"NAME\"}}{{upper .Id}}{{title \"a b\"}}", "nameSHA256:0123456789ABCDEFA B"),
        ("{{pad \"x\" 1 2}}|", " x  |"),
        ("{{truncate .Id 15}}", "sha256:01234567"),
        ("{{println .Id}}", "sha256:0123456789abcdef\n"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "PATH=/bin\nA=b\n"),
        ("{{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}", ""),
        ("{{with .State.Health}}{{.Status}}{{else}}none{{end}}", "none"),
        ("{{.State.Running}} {{.State.ExitCode}} {{.Size}} {{.Ratio}}", "true 0 7500000 1.5"),
        ("{{len .RepoTags}}{{len .Config.Labels}}", "22"),
        ("{{.RepoTags}}{{.Config.Labels}}", "[alpine:3 alpine:latest]map[a:1 b.c:2]"),
        ("{{index .Config.Labels \"b.c\"}}", "2"),
        ("{{index .Config.Labels \"none\"}}|{{.Config.Labels.none}}", "|<no value>"),
        ("{{.Config.Volumes}}", "<no value>"),
        ("{{.ID}}", "sha256:0123456789abcdef"),
    ]);
}

#[test]
fn blocks_variables_and_pipelines_work_as_in_go() {
    check(&[
        ("{{if .State.Running}}a{{else}}b{{end}}", "a"),
        ("{{if eq .Size 1}}a{{else if gt .Size 2}}b{{else}}c{{end}}", "b"),
        (
            "{{with .Nope}}{{else}}{{end}}",
            "1:7: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        ),
        ("{{with .Config.Labels}}{{.a}}{{end}}", "1"),
        ("{{with $x := 3}}{{$x}}{{.}}{{end}}", "33"),
        ("{{with 0}}a{{else with 2}}{{.}}{{else}}c{{end}}", "2"),
        ("{{range $i, $e := .RepoTags}}{{$i}}={{$e}};{{end}}", "0=alpine:3;1=alpine:latest;"),
        ("{{range $e := .RepoTags}}{{$e}},{{end}}", "alpine:3,alpine:latest,"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a=1 b.c=2 "),
        ("{{range .Config.Volumes}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .RepoTags}}{{break}}{{.}}{{end}}", ""),
        ("{{range $i, $e := .Config.Cmd}}{{if eq $i 1}}{{continue}}{{end}}{{$i}}{{end}}", "02"),
        ("{{$x := 1}}{{range .RepoTags}}{{$x = .}}{{end}}{{$x}}", "alpine:latest"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{range .RepoTags}}{{$.Size}} {{end}}", "7500000 7500000 "),
        ("{{.Size | printf \"%d-%d\" 1}}", "1-7500000"),
        ("{{\"a\" | printf \"%s%s\" \"b\" | upper}}", "BA"),
        ("{{(printf \"%d\" 3 | len)}}", "1"),
        ("{{and 1 0 .Nope}}{{or 0 \"\" 3}}{{not 0}}", "03true"),
        ("{{and true .State.Running}}", "true"),
        ("{{or .State.Running .Nope}}", "true"),
        ("{{ne 1 2}}{{lt 1 2}}{{le 2 2}}{{gt \"b\" \"a\"}}{{ge 1.5 1.5}}", "truetruetruetruetrue"),
        ("{{eq .Id \"x\" .Id}}", "true"),
        ("{{slice .RepoTags 1}}{{slice \"abc\" 1 2}}", "[alpine:latest]b"),
        ("{{html \"<b>\"}}{{js \"'\"}}{{urlquery \"a b\"}}", "&lt;b&gt;\\'a+b"),
        ("{{print 1 2 \"a\" 3}}|{{print nil}}", "1 2a3|<nil>"),
        ("{{1e3}} {{0x10}} {{'a'}} {{1_000}} {{-2.50}} {{true}}", "1000 16 97 1000 -2.5 true"),
        ("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" 1}}{{template \"t\"}}", "<1><<no value>>"),
        ("{{block \"t\" .Size}}{{.}}{{end}}", "7500000"),
        ("a {{- /* c */ -}} b {{- \"c\"}} d", "abc d"),
        ("{{\"\\u00e9\\n\"}}{{`\\n`}}", "é\n\\n"),
        ("", ""),
        ("}}", "}}"),
    ]);
}

#[test]
fn errors_are_worded_as_go_words_them() {
    check(&[
        ("{{.Nope}}", "1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        ("a\n {{.State.Nope}}", "2:9: executing \"\" at <.State.Nope>: map has no entry for key \"Nope\""),
        ("{{.Id.X}}", "1:5: executing \"\" at <.Id.X>: can't evaluate field X in type string"),
        (
            "{{.Config.Nope}}",
            "1:9: executing \"\" at <.Config.Nope>: can't evaluate field Nope in type *container.Config",
        ),
        (
            "{{.State.Health.Status}}",
            "1:8: executing \"\" at <.State.Health.Status>: nil pointer evaluating *types.Health.Status",
        ),
        (
            "{{index .RepoTags 5}}",
            "1:2: executing \"\" at <index .RepoTags 5>: error calling index: index out of range: 5",
        ),
        ("{{len 3}}", "1:2: executing \"\" at <len 3>: error calling len: len of type int"),
        (
            "{{eq .Size \"x\"}}",
            "1:2: executing \"\" at <eq .Size \"x\">: error calling eq: incompatible types for comparison",
        ),
        ("{{split .Id}}", "1:2: executing \"\" at <split>: wrong number of args for split: want 2 got 1"),
        (
            "{{index}}",
            "1:2: executing \"\" at <index>: wrong number of args for index: want at least 1 got 0",
        ),
        ("{{upper 1}}", "1:8: executing \"\" at <1>: expected string; found 1"),
        ("{{upper .Size}}", "1:8: executing \"\" at <.Size>: wrong type for value; expected string; got int"),
        ("{{truncate .Id \"3\"}}", "1:15: executing \"\" at <\"3\">: expected integer; found \"3\""),
        ("{{.Id \"x\"}}", "1:2: executing \"\" at <.Id>: Id has arguments but cannot be invoked as function"),
        ("{{1 2}}", "1:2: executing \"\" at <1>: can't give argument to non-function 1"),
        ("{{nil}}", "1:2: executing \"\" at <nil>: nil is not a command"),
        (
            "{{range .Id}}{{end}}",
            "1:8: executing \"\" at <.Id>: range can't iterate over sha256:0123456789abcdef",
        ),
        ("{{template \"t\"}}", "1:11: executing \"\" at <{{template \"t\"}}>: template \"t\" not defined"),
        (
            "{{define \"t\"}}{{.X}}{{end}}{{template \"t\" 1}}",
            "1:16: executing \"t\" at <.X>: can't evaluate field X in type int",
        ),
        (
            "{{call .Id}}",
            "1:2: executing \"\" at <call .Id>: error calling call: non-function .Id of type string",
        ),
        ("{{foo}}", "1: function \"foo\" not defined"),
        ("{{.Id", "1: unclosed action"),
    ]);
}

#[test]
fn a_row_of_a_list_has_fields_and_labels() {
    let row = json!({"ID": "1", "Labels": null, "Label": {"a": "b"}});
    let rendered = |template: &str| Template::parse(template).and_then(|t| t.render(&row, ROW));
    assert_eq!(rendered("{{.Label \"a\"}}{{.Label \"x\"}}|{{\"a\" | .Label}}").as_deref(), Ok("b|b"));
    assert_eq!(rendered("{{.Labels}}").as_deref(), Ok("map[]"));
    let wrong = rendered("{{.Id}}").expect_err("the field is `ID`").to_string();
    assert!(wrong.ends_with("at <.Id>: can't evaluate field Id in type *formatter.imageContext"), "{wrong}");
    let wrong = rendered("{{.Label}}").expect_err("it takes a name").to_string();
    assert!(wrong.ends_with("wrong number of args for Label: want 1 got 0"), "{wrong}");
}

#[test]
fn maps_say_no_value_and_the_fields_used_are_known() {
    assert_eq!(
        render("{{.a}}{{.b}}{{.b.c}}", &json!({"a": null})).as_deref(),
        Ok("<no value><no value><no value>")
    );
    let template =
        Template::parse("{{.A}}{{range .B}}{{.C.D}}{{end}}{{json (index $.E 0).F}}").expect("it is one");
    assert_eq!(template.fields().into_iter().collect::<Vec<_>>(), ["A", "B", "C", "E", "F"]);
}

#[test]
fn every_template_ends() {
    let big = json!("x".repeat(1 << 20));
    for template in [
        "{{range 1000000000}}{{end}}",
        "{{range 1000}}{{range 1000}}{{range 1000}}{{end}}{{end}}{{end}}",
        "{{range 1000}}{{.}}{{$}}{{end}}",
        "{{$x := \"ab\"}}{{range 60}}{{$x = print $x $x}}{{end}}",
        "{{define \"t\"}}{{template \"t\" .}}{{end}}{{template \"t\" .}}",
        "{{define \"t\"}}{{template \"t\" .}}{{template \"t\" .}}{{end}}{{template \"t\" .}}",
        "{{printf \"%999999d%999999d\" 1 2 | split (printf \"%999999d\" 1)}}{{join (split $ \"\") $}}",
        "{{range 1000000}}{{if eq $ $}}{{end}}{{end}}",
        "{{pad $ 10000000000 1}}",
        "{{printf \"%999999s\" (split $ \"\")}}",
    ] {
        let found = render(template, &big);
        assert!(found.is_err(), "{template}: {} bytes", found.map_or(0, |text| text.len()));
    }
    let long = "{{1}}".repeat(100_000);
    assert!(matches!(render(&long, &Value::Null), Err(TemplateError::TooMuch { .. })));
}

/// Pieces that make templates which often parse.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "if ",
        "else",
        "end",
        "range ",
        "with ",
        "define \"t\"",
        "template \"t\" ",
        "break",
        "continue",
        "block \"b\" ",
        ".",
        ".A",
        ".B.C",
        "$",
        "$x",
        " := ",
        " = ",
        ", ",
        "|",
        "(",
        ")",
        " ",
        "1",
        "-3",
        "1.5",
        "1e400",
        "'a'",
        "\"s\"",
        "`r`",
        "nil",
        "true",
        "and ",
        "or ",
        "not ",
        "len ",
        "index ",
        "slice ",
        "print ",
        "printf ",
        "println ",
        "eq ",
        "lt ",
        "html ",
        "json ",
        "split ",
        "join ",
        "title ",
        "pad ",
        "truncate ",
        "call ",
        "\"%v %d %-5s %*d\" ",
        "/* c */",
        "\n",
        "text",
        "é",
        "\u{0}",
    ];
    prop_oneof![
        20 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        1 => ".{0,5}",
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zé,]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ABC]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_template_panics(pieces in prop::collection::vec(piece(), 0..40), value in json_value()) {
        let text = pieces.concat();
        if let Ok(template) = Template::parse(&text) {
            for shape in [Shape::Any, IMAGE, ROW, LABELS, ENV] {
                let found = template.render(&value, shape);
                prop_assert!(found.is_ok() || !found.unwrap_err().to_string().is_empty());
            }
            drop((template.heading(&value), template.fields()));
        }
    }

    #[test]
    fn actions_in_a_row_of_words_never_panic(words in prop::collection::vec(piece(), 1..8), value in json_value()) {
        let inner: String = words.into_iter().filter(|word| !word.contains('{') && !word.contains('}')).collect();
        if let Err(wrong) = render(&format!("{{{{{inner}}}}}"), &value) {
            prop_assert!(!wrong.to_string().is_empty());
        }
    }
}

// ── asked of Docker itself ──────────────────────────────────────────────────────────────────────

const CONTEXT: Shape = Shape::Struct {
    name: "context.contextWithTLSListing",
    fields: &[("Endpoints", Shape::Map(&Shape::Any))],
};

/// What Docker makes of a template; nothing when there is no Docker.
fn by_docker(template: &str) -> Option<String> {
    let mut docker = std::process::Command::new("docker");
    docker.args(["context", "inspect", "default", "--format", template]);
    docker.env("DOCKER_HOST", "unix:///x/y.sock").env("DOCKER_CONFIG", "/nowhere");
    let output = docker.output().ok()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let text = if output.status.success() { out } else { err };
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

fn by_us(template: &str) -> String {
    let context = json!({"Name": "default", "Endpoints": {"docker": {"Host": "unix:///x/y.sock"}}});
    let made = Template::parse(template).and_then(|template| template.render(&context, CONTEXT));
    made.unwrap_or_else(|wrong| wrong.to_string())
}

fn no_docker() -> bool {
    let none = by_docker("{{.Name}}").as_deref() != Some("default");
    if none {
        let _told =
            std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: no `docker` that shows a context\n");
    }
    none
}

#[test]
fn docker_itself_agrees() {
    if no_docker() {
        return;
    }
    for template in TEMPLATES {
        assert_eq!(Some(by_us(template)), by_docker(template), "{template}");
    }
}

/// What Docker is asked: what its documentation shows, and every rule of Go that is easily got wrong.
const TEMPLATES: &[&str] = &[
    "{{\nlen ",
    "{{ lt ( 1 \n $}}",
    "{{else printf}}",
    "{{else if 1}}",
    "{{pad (split \"a,b\" \",\") 1 2}}",
    r#"{{.Name}}"#,
    r#"{{.Nope}}"#,
    r#"{{.Name.X}}"#,
    r#"{{.Name.X.Y}}"#,
    r#"{{.Endpoints.none}}"#,
    r#"{{.Endpoints.none.x}}"#,
    r#"{{index .Endpoints "none"}}"#,
    r#"{{len .Endpoints}}{{len .Name}}"#,
    r#"{{range $k, $v := .Endpoints}}{{$k}}{{end}}"#,
    r#"{{range .Name}}{{end}}"#,
    r#"{{range 3}}{{.}}{{end}}"#,
    r#"{{range $i := 3}}{{$i}}{{end}}"#,
    r#"{{range $i, $e := 3}}{{$i}}{{end}}"#,
    r#"{{range nil}}x{{end}}"#,
    r#"{{with .Name}}{{.}}{{$.Name}}{{end}}"#,
    r#"{{with $x := .Name}}{{$x}}{{end}}"#,
    r#"{{if .Name}}a{{else}}b{{end}}"#,
    r#"{{if eq .Name "x"}}a{{else if eq .Name "default"}}b{{end}}"#,
    r#"{{with 0}}a{{else with 2}}{{.}}{{else}}c{{end}}"#,
    r#"{{split .Name "a"}}"#,
    r#"{{index (split .Name "a") 1}}"#,
    r#"{{index (split .Name "a") 9}}"#,
    r#"{{join (split .Name "a") "-"}}"#,
    r#"{{join .Name "-"}}"#,
    r#"{{json .Name}}{{json 1.0}}{{json 1e30}}{{json nil}}"#,
    r#"{{json (split .Name "a")}}"#,
    r#"{{title "don't a-b c_d ünder"}}"#,
    r#"{{upper .Name}}{{lower "ABC"}}"#,
    r#"{{pad .Name 2 3}}|"#,
    r#"{{pad .Name -1 3}}|"#,
    r#"{{truncate .Name 3}}|{{truncate .Name 30}}"#,
    r#"{{truncate .Name -1}}"#,
    r#"{{printf "%v %d %s %q %x %X %o %b %c %U" 1 2 "s" "q" 255 255 8 5 97 233}}"#,
    r#"{{printf "%5d|%-5d|%05d|%+d|% d" 42 42 -42 7 7}}"#,
    r#"{{printf "%5s|%-5s|%.2s|%5.1s|" "ab" "ab" "abc" "xyz"}}"#,
    r#"{{printf "%.2f %f %e %g %G %6.2f|%-8.1f|%+.1f" 1.005 1.5 1500.0 1e7 1e-7 3.14159 2.5 2.5}}"#,
    r#"{{printf "%.3g %.10g %g %g" 1234.5 1234.5 100000.0 1000000.0}}"#,
    r#"{{printf "%t %v %T %T %T" true false "x" 1 1.5}}"#,
    r#"{{printf "%d" "hi"}}"#,
    r#"{{printf "%s" 1}}"#,
    r#"{{printf "%d"}}"#,
    r#"{{printf "%"}}"#,
    r#"{{printf "%!"}}"#,
    r#"{{printf "x" 1 "b" 1.5 nil}}"#,
    r#"{{printf "%*d|%-*d|" 4 1 3 2}}"#,
    r#"{{printf "%[2]s %[1]s" "a" "b"}}"#,
    r#"{{printf "%[3]s" "a"}}"#,
    r#"{{printf "%[x]s" "a"}}"#,
    r#"{{printf "%v %s %d" nil nil nil}}"#,
    r#"{{printf "%v" (split .Name "a")}}"#,
    r#"{{printf "%q" (split .Name "a")}}"#,
    r#"{{printf "%d" (split .Name "a")}}"#,
    r#"{{printf "%5s|" (split .Name "a")}}"#,
    r#"{{printf "%x % x %#x" "hi" "hi" "hi"}}"#,
    r#"{{printf "%#v %#v %#x %#o" "a" 1 255 8}}"#,
    r#"{{printf "%q %+q %#q" "é\n" "é" "abc"}}"#,
    r#"{{printf "%q" 233}}"#,
    r#"{{printf "%U %#U" 233 233}}"#,
    r#"{{printf "%08.3f|%-08d|%+05d" 3.14159 42 42}}"#,
    r#"{{printf "%6v|%-6v|%06v" true "ab" 7}}"#,
    r#"{{printf "%s %s" "a"}}"#,
    r#"{{printf "%z" 1}}"#,
    r#"{{printf "%-10s|%10s|" .Name .Name}}"#,
    r#"{{printf "%.0f %.1f" 0.5 0.25}}"#,
    r#"{{printf "%e" 0.0}} {{printf "%g" 0.0}}"#,
    r#"{{printf "%5t|" true}}"#,
    r#"{{printf "%c" 0x1F600}}"#,
    r#"{{printf "%d%%" 5}}"#,
    r#"{{printf "%03d|%+03d|%x" 5 5 -255}}"#,
    r#"{{printf "%.5d|%8.5d|%-8.5d|" 42 42 42}}"#,
    r#"{{print 1 2 "a" 3 4.5 true nil}}"#,
    r#"{{print "a" "b"}}{{print 1 "b" 2 3}}"#,
    r#"{{println 1 "a" nil}}"#,
    r#"{{print nil}}"#,
    r#"{{nil}}"#,
    r#"{{1.0}} {{1e3}} {{0x10}} {{010}} {{0b11}} {{0o17}} {{'a'}} {{1_000}} {{-2.50}} {{+3}} {{1e-7}} {{123456.0}} {{1234567.0}} {{.5}}"#,
    r#"{{1e400}}"#,
    r#"{{9223372036854775807}}"#,
    r#"{{9223372036854775808}}"#,
    r#"{{18446744073709551616}}"#,
    r#"{{"\u00e9\x41\101\n\t\""}}"#,
    r#"{{"\q"}}"#,
    r#"{{"\777"}}"#,
    r#"{{'ab'}}"#,
    r#"{{'\n'}}"#,
    r#"{{`raw\n`}}"#,
    r#"{{and 1 0 .Nope}}{{or 0 "" 3}}{{not 0}}"#,
    r#"{{and}}"#,
    r#"{{and 1 2 3}} {{or 0 0 ""}} {{and "" 1}}"#,
    r#"{{not}}"#,
    r#"{{not 1 2}}"#,
    r#"{{eq 1 1}}{{eq 1 2 1}}{{ne 1 2}}{{lt 1 2}}{{le 2 2}}{{gt "b" "a"}}{{ge 1.5 1.5}}"#,
    r#"{{eq 1 1.0}}"#,
    r#"{{eq "a" 1}}"#,
    r#"{{eq 1}}"#,
    r#"{{eq}}"#,
    r#"{{eq nil nil}}"#,
    r#"{{eq .Name nil}}"#,
    r#"{{eq true true}}{{eq true false}}"#,
    r#"{{lt true false}}"#,
    r#"{{lt 1 "a"}}"#,
    r#"{{lt 1 2.0}}"#,
    r#"{{lt nil 1}}"#,
    r#"{{eq .Endpoints 1}}"#,
    r#"{{lt .Endpoints 1}}"#,
    r#"{{index .Name 0}}"#,
    r#"{{index .Name 99}}"#,
    r#"{{index .Name "x"}}"#,
    r#"{{index 1 2}}"#,
    r#"{{index nil 1}}"#,
    r#"{{index .Endpoints 1}}"#,
    r#"{{index}}"#,
    r#"{{index .Name}}"#,
    r#"{{slice .Name 1 3}}{{slice .Name 2}}{{slice .Name}}"#,
    r#"{{slice .Name 9}}"#,
    r#"{{slice .Name 3 1}}"#,
    r#"{{slice .Name 1 2 3}}"#,
    r#"{{slice .Name 1 2 3 4}}"#,
    r#"{{slice 1}}"#,
    r#"{{slice nil}}"#,
    r#"{{slice (split .Name "a") 0 1}}"#,
    r#"{{slice .Name "a"}}"#,
    r#"{{slice .Endpoints 1}}"#,
    r#"{{len 3}}"#,
    r#"{{len}}"#,
    r#"{{html "<a href=\"x\">'&"}}{{js "it's <b>=\n\"\\&"}}{{urlquery "a b/é&"}}"#,
    r#"{{html 1}}{{html nil}}{{html "a" 1 2}}"#,
    r#"{{html .Nope}}"#,
    r#"{{call .Name}}"#,
    r#"{{call nil}}"#,
    r#"{{call}}"#,
    r#"{{upper 1}}"#,
    r#"{{upper nil}}"#,
    r#"{{upper .Endpoints}}"#,
    r#"{{upper .Endpoints.none}}"#,
    r#"{{upper true}}"#,
    r#"{{truncate .Name "3"}}"#,
    r#"{{truncate .Name 2.0}}"#,
    r#"{{truncate .Name 2.5}}"#,
    r#"{{truncate .Name .Name}}"#,
    r#"{{truncate .Name nil}}"#,
    r#"{{split .Name}}"#,
    r#"{{split .Name "a" "b"}}"#,
    r#"{{"a" | split .Name}}"#,
    r#"{{.Name | upper | printf "%s-%s" "x"}}"#,
    r#"{{1 | 2}}"#,
    r#"{{.Name | nope}}"#,
    r#"{{.Name "x"}}"#,
    r#"{{.Endpoints.docker "x"}}"#,
    r#"{{.Endpoints "x"}}"#,
    r#"{{1 2}}"#,
    r#"{{"a" 1}}"#,
    r#"{{. 1}}"#,
    r#"{{(.Name) 1}}"#,
    r#"{{(1) | print}}"#,
    r#"{{$x := 1}}{{$x 2}}"#,
    r#"{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}"#,
    r#"{{$y = 2}}"#,
    r#"{{$x}}"#,
    r#"{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}"#,
    r#"{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}"#,
    r#"{{range $i, $e := split "a,b" ","}}{{$i}}={{$e}} {{end}}"#,
    r#"{{range $e := split "a,b" ","}}{{$e}} {{end}}"#,
    r#"{{range split "a,b" ","}}{{.}}{{else}}none{{end}}"#,
    r#"{{range split "a,b,c" ","}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}"#,
    r#"{{range split "a,b,c" ","}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}"#,
    r#"{{$i := 0}}{{$e := 0}}{{range $i, $e = split "a,b" ","}}{{end}}{{$i}}{{$e}}"#,
    r#"{{$e := 0}}{{range $e = split "a,b" ","}}{{end}}{{$e}}"#,
    r#"{{range $i, $e := 1}}{{end}}{{$i}}"#,
    r#"{{break}}"#,
    r#"{{continue}}"#,
    r#"{{range 2}}{{break 1}}{{end}}"#,
    r#"{{define "t"}}<{{.}}>{{end}}{{template "t" 1}}{{template "t"}}"#,
    r#"{{template "t"}}"#,
    r#"{{template "t" .}}"#,
    r#"{{template .}}"#,
    r#"{{template "t"#,
    r#"{{define "t"}}{{.X}}{{end}}{{template "t" 1}}"#,
    r#"{{define "t"}}x"#,
    r#"{{define t}}{{end}}"#,
    r#"{{if true}}{{define "t"}}{{end}}{{end}}"#,
    r#"{{block "t" .Name}}[{{.}}]{{end}}"#,
    r#"{{block "t"}}x{{end}}"#,
    r#"a {{- "b" -}} c"#,
    r#"a {{- /* c */ -}} b {{/* x */}} c"#,
    r#"{{/* x }}"#,
    r#"{{/* x */ 1}}"#,
    r#"{{- 1 -}}"#,
    r#"{{-1}}"#,
    r#"{{ - 1}}"#,
    r#"{{}}"#,
    r#"{{ }}"#,
    r#"{{."#,
    r#"{{.Name"#,
    r#"{{.Name}"#,
    r#"{{.Name }"#,
    r#"{{.Name}}}"#,
    r#"}}"#,
    r#"{{"a}}"#,
    r#"{{`a}}"#,
    r#"{{'a}}"#,
    r#"{{(1}}"#,
    r#"{{1)}}"#,
    r#"{{()}}"#,
    r#"{{(.Name}}"#,
    r#"{{.Name)}}"#,
    r#"{{print (}}"#,
    r#"{{3k}}"#,
    r#"{{1.A}}"#,
    r#"{{true.A}}"#,
    r#"{{nil.A}}"#,
    r#"{{(nil).A}}"#,
    r#"{{"a".A}}"#,
    r#"{{(print "a").A}}"#,
    r#"{{$.Name.A}}"#,
    r#"{{.Name..A}}"#,
    r#"{{..}}"#,
    r#"{{.1}}"#,
    r#"{{.a.1}}"#,
    r#"{{$x:1}}"#,
    r#"{{$x := }}"#,
    r#"{{$x, $y := 1}}"#,
    r#"{{range $x, 1 := .}}{{end}}"#,
    r#"{{range $x, $y, $z := .}}{{end}}"#,
    r#"{{range $x, $y}}{{end}}"#,
    r#"{{if}}x{{end}}"#,
    r#"{{if .Name}}x"#,
    r#"{{if .Name}}x{{else}}y"#,
    r#"{{if .Name}}x{{else}}y{{else}}z{{end}}"#,
    r#"{{if .Name}}x{{else if}}y{{end}}"#,
    r#"{{end}}"#,
    r#"{{else}}"#,
    r#"{{if true}}{{else 1}}{{end}}"#,
    r#"{{if true}}{{end 1}}"#,
    r#"{{range .Name | split "a"}}{{end}}"#,
    r#"{{foo}}"#,
    r#"{{.Name | foo}}"#,
    r#"{{foo.Bar}}"#,
    r#"{{.Name | }}"#,
    r#"{{ | .Name}}"#,
    r#"{{.Name || 1}}"#,
    r#"{{.Name, 1}}"#,
    r#"{{.Name ; 1}}"#,
    r#"{{@}}"#,
    r#"{{é}}"#,
    r#"{{.é}}"#,
    r#"{{.Name-x}}"#,
    r#"{{.Name -1}}"#,
    r#"{{print .Name}}{{print . | len | gt 0}}"#,
    r#"{{print 1.0 2.50 1e100 1e20 1e21 0.0001 0.00001}}"#,
    r#"{{printf "%v" 1e6}} {{printf "%v" 100000.0}}"#,
    r#"{{print 'a' "x" 'b'}}"#,
    r#"{{len "é"}}"#,
    r#"{{html "\x00"}}"#,
    r#"{{js "é\u2028<>"}}"#,
    r#"{{json "<>&\u2028\x01\x7f"}}"#,
    r#"{{json "\b\f"}}"#,
    r#"{{urlquery "a" 1}}"#,
    r#"{{title ""}}{{title "a"}}{{title "éa"}}"#,
    r#"{{eq "a" "b" 1}}"#,
    r#"{{eq 1 2 "a"}}"#,
    r#"{{ne 1 "a"}}"#,
    r#"{{le "a" "b"}}{{gt 2 1}}{{ge 1 2}}"#,
    r#"{{le "a" 1}}{{gt 2 1}}{{ge 1 2}}"#,
    r#"{{not .Endpoints}}{{not .Endpoints.none}}"#,
    r#"{{and .Endpoints.none 1}}"#,
    r#"{{or .Endpoints.none 1}}"#,
    r#"{{with .Endpoints.none}}a{{else}}b{{end}}"#,
    r#"{{range .Endpoints.none}}a{{else}}b{{end}}"#,
    r#"{{if .Endpoints.none}}a{{else}}b{{end}}"#,
    r#"{{"x" | .Name}}"#,
    r#"{{true | not}}"#,
    r#"{{true 1}}"#,
    r#"{{- "a" | printf "%s" | len -}}"#,
    r#"a
 {{.Nope}}"#,
];
