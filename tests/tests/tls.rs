//! A server that takes TLS alone: its certificate is checked as the URL says.

use tribunal_e2e::{PostgresServer, SimProcess, Workspace, assert_exit, describe, skip};

#[test]
fn a_certificate_is_checked_against_the_authority_and_the_name() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    let Some(authority) = server.require_tls() else {
        return skip("OpenSSL is not installed: no certificate to check");
    };
    let authority = authority.display().to_string();
    let checked = format!("?sslmode=verify-full&sslrootcert={authority}");
    let workspace = Workspace::generated(10);
    let init = |url: &str, parameters: &str| {
        workspace.run(&["store", "init", "--store", &format!("{url}{parameters}")])
    };
    let url = server.url();

    // Another authority, another name, no TLS at all.
    let another = format!("?sslmode=verify-full&sslrootcert={}", another_authority(&workspace));
    let named = url.replace("127.0.0.1", "localhost");
    for (url, parameters) in [
        (&url, another.as_str()),
        (&url, "?sslmode=verify-full"),
        (&named, checked.as_str()),
        (&url, "?sslmode=disable"),
    ] {
        let refused = init(url, parameters);
        assert_exit(&refused, 2);
        assert!(refused.stdout.is_empty(), "{}", describe(&refused));
    }
    let said = init(&url, &another);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("TLS") && said.contains("sslrootcert"), "it says what to do: {said}");
    assert_eq!(server.sql("SELECT to_regnamespace('tribunal') IS NULL"), "t");

    assert_exit(&init(&url, &checked), 0);
    // The name alone is not checked by `verify-ca`.
    assert_exit(&init(&named, &checked.replace("verify-full", "verify-ca")), 0);
    let sim = SimProcess::start(&[]);
    let graded =
        workspace.run_grade(&sim.base_url, &["--quiet", "--store", &format!("{url}{checked}")]);
    assert_exit(&graded, 0);
    assert_eq!(server.sql("SELECT count(*) FROM tribunal.verdicts"), "10");
}

/// The certificate of an authority that has signed nothing here.
fn another_authority(workspace: &Workspace) -> String {
    let (key, certificate) = (workspace.file("another.key"), workspace.file("another.crt"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=another"])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", describe(&made));
    certificate.display().to_string()
}
