# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_p2ps_tracker_global_optspecs
    string join \n insecure-http tariff= tls-cert= tls-key= placement= networks= session-length= graph= hub-cap= listen= bind-dev= 4/ipv4 6/ipv6 key-life= admin-token-file= store= state-dir= tls-ca= stats= stats-interval= metrics= config= print-config check-config dry-run on-ready= on-exit= ready-fd= pid-file= seed= log-level= log-format= v/verbose q/quiet no-progress h/help V/version
end

function __fish_p2ps_tracker_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_p2ps_tracker_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_p2ps_tracker_using_subcommand
    set -l cmd (__fish_p2ps_tracker_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l tariff -d 'Sell streams by this tariff: packets, bandwidth intervals and their prices, in TOML; read again on HUP' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l tls-cert -d 'Serve HTTPS with this certificate chain (PEM, our own first); read again on HUP' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l tls-key -d 'Private key of the certificate (PEM, mode 0600)' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l placement -d 'Whom newcomers are sent to' -r -f -a "list\t'Whoever has free slots, nearest to the source first'
psp\t'Supporting viewers of the nearest cluster, its server for what they lack, then another cluster'
psp-strict\t'The same, with every viewer from supporting viewers alone or from a server alone'
balanced\t'A place in a balanced tree of six levels'
star\t'The source, all of them'"
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l networks -d 'Where addresses are (subnet, AS, country, cluster), and links between clusters: a TOML file, for psp; read again on HUP' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l session-length -d 'Length of a session until some have ended, for what psp compares itself with: 1s to 1d [default: 1h]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l graph -d 'Who knows whom, by peer id, to make friends neighbours: a TOML file, for balanced; read again on HUP' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l hub-cap -d 'Most neighbours of anybody but the source, for balanced: 2 to 1000' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l listen -d 'Address to listen on: ADDR:PORT, [V6]:PORT, or :PORT for all addresses; port 0 takes any free one [default: 127.0.0.1:7851]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l bind-dev -d 'Use this network interface only' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l key-life -d 'How long one key of a sealed channel is used: 10s to 7d. When a user is revoked there is a new one at once' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l admin-token-file -d 'Let nobody read contracts, the ledger, or tables without a session, but who shows the token in this file (one word, mode 0600) as Authorization: Bearer; read again on HUP. Without it every process of this machine may' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l stats -d 'Write records (JSON lines) to -, fd:N, PATH, unix:PATH or udp://HOST:PORT. Repeatable' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l stats-interval -d 'Time between interval records: 100ms to 1h' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l metrics -d 'Serve Prometheus metrics over HTTP at this address' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l config -d 'Read settings from this TOML file; keys are the long option names. Flags and P2PS_* win over it' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l on-ready -d 'Run this with sh -c once everything is bound; facts are in P2PS_FACT_*' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l on-exit -d 'Run this with sh -c at the end; facts are in P2PS_FACT_*' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l ready-fd -d 'Write one line to this descriptor once everything is bound: 3 to 1023' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l pid-file -d 'Write the process id to this file, and remove it at the end' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l seed -d 'Draw every random choice but keys from this number, to repeat a run' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l log-level -d 'Least serious message to show' -r -f -a "off\t'Nothing'
error\t'What ends the tool, or costs media'
warn\t'What somebody should look at'
info\t'What happened'
debug\t'Why it happened'
trace\t'Every step'"
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l log-format -d 'Form of messages on standard error' -r -f -a "text\t'One line of words'
json\t'One JSON object a line'"
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l insecure-http -d 'Serve plain HTTP on addresses other than loopback'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l print-config -d 'Print every setting and where it came from, and exit'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l check-config -d 'Check options and configuration, and exit: 0 or 2'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l dry-run -d 'Do everything up to the first packet: open, read, bind; then exit. A peer asks its trackers what it would get'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -s v -l verbose -d 'Say more; twice for everything'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -l no-progress -d 'Show no progress line on a terminal'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -s V -l version -d 'Print version'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -f -a "user" -d 'Users who prove themselves with a secret'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -f -a "channel" -d 'Channels that only users may join, and hand on to nobody else'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -f -a "contracts" -d 'Print every contract that was ever made: who bought what of whom, at which price'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -f -a "ledger" -d 'Print every entry of the ledger: who paid whom how much, and what for'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and not __fish_seen_subcommand_from add list revoke" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and not __fish_seen_subcommand_from add list revoke" -f -a "add" -d 'Make a user and print its secret, which is shown only now'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and not __fish_seen_subcommand_from add list revoke" -f -a "list" -d 'Print every user'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and not __fish_seen_subcommand_from add list revoke" -f -a "revoke" -d 'Forget a user; tickets it holds are not honoured any more'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l role -d 'What the user may do: watch, serve, publish. Repeatable [default: watch]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from revoke" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from revoke" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from revoke" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand user; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and not __fish_seen_subcommand_from close open list" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and not __fish_seen_subcommand_from close open list" -f -a "close" -d 'Let only users join a channel'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and not __fish_seen_subcommand_from close open list" -f -a "open" -d 'Let everybody join a channel'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and not __fish_seen_subcommand_from close open list" -f -a "list" -d 'Print every closed channel'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from close" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from close" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from close" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from close" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from open" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from open" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from open" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from open" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from list" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from list" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from list" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand channel; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand contracts" -l since -d 'From when on: a time such as 2026-11-21T20:00:00Z, or how long ago, such as 30d' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand contracts" -l user -d 'Only what this account or user bought, sold, paid or was paid' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand contracts" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand contracts" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand contracts" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand contracts" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand ledger" -l since -d 'From when on: a time such as 2026-11-21T20:00:00Z, or how long ago, such as 30d' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand ledger" -l user -d 'Only what this account or user bought, sold, paid or was paid' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand ledger" -l store -d 'Where durable state is kept: redb:PATH, mem:, or redis://HOST:PORT/DB (rediss:// behind TLS) for several trackers that are one [default: tracker.redb in the state directory]' -r
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand ledger" -l state-dir -d 'Directory for durable state [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand ledger" -l tls-ca -d 'Trust a rediss store whose certificate these authorities (PEM) signed, in place of the usual ones' -r -F
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand ledger" -s h -l help -d 'Print help'
complete -c p2ps-tracker -n "__fish_p2ps_tracker_using_subcommand completions" -s h -l help -d 'Print help'
