# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_p2ps_qos_global_optspecs
    string join \n h/help V/version
end

function __fish_p2ps_qos_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_p2ps_qos_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_p2ps_qos_using_subcommand
    set -l cmd (__fish_p2ps_qos_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -s h -l help -d 'Print help'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -s V -l version -d 'Print version'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "summary" -d 'Percentiles of join time, latency, jitter, loss, continuity and stalls, by node and channel'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "check" -d 'Compare records with thresholds; exit 1 at the first that misses one'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "schema" -d 'Print the JSON Schema of the records'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "users" -d 'Everybody on a channel, with bandwidth, latency and jitter'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "packets" -d 'The price packets, gold, silver and bronze: bounds, price, and who has them'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "intervals" -d 'The prices by interval of bandwidth, and whose bandwidth lies there'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "clients" -d 'The clients of a channel: those who pay'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "peers" -d 'The peers of a channel: those who watch for nothing'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "bandwidth" -d 'The bandwidth of every client'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "latency" -d 'The latency of every client'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "jitter" -d 'The jitter of every client'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "qos" -d 'Any of bandwidth, latency and jitter of every client'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "direct-clients" -d 'The clients at the provider\'s own server that have a packet'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "status" -d 'Who is what and serves whom: c, c-c, c-p, c-c,p, p, p-p'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "history" -d 'What was measured when: kept by the tracker, or with --from by a source, relay or peer'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "clusters" -d 'The clusters of servers, where the tracker has any'
complete -c p2ps-qos -n "__fish_p2ps_qos_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand summary" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand summary" -l strict -d 'Stop with exit 1 at a line that is no record, instead of passing over it'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand summary" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l max-loss -d 'Largest loss before repair, such as 5% or 0.05' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l max-latency -d 'Largest latency from the source, such as 4s' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l max-jitter -d 'Largest jitter, such as 50ms' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l max-stall -d 'Longest time without output, such as 0s' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l min-continuity -d 'Smallest share of chunks that were there when due, such as 0.99' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l max-join -d 'Longest time from start to first media, such as 2s' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l window -d 'Judge each node over the last DUR instead of record by record' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l standard -d 'A published set of thresholds, for those not given; streamsmart: loss up to 5 %, latency up to 4 s' -r -f -a "streamsmart\t'Loss up to 5 %, latency up to 4 s (critical from 5 s on with --nagios)'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l strict -d 'Stop with exit 1 at a line that is no record, instead of passing over it'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -l nagios -d 'Answer as a Nagios plugin: one line, exit 0 ok, 1 warning, 2 critical, 3 unknown'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand schema" -s h -l help -d 'Print help'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand users" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand users" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand users" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand users" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand users" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand users" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand users" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand packets" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand packets" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand packets" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand packets" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand packets" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand packets" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand packets" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand intervals" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand intervals" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand intervals" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand intervals" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand intervals" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand intervals" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand intervals" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l bandwidth -d 'Only with this much bandwidth or more, such as 10Mbit' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l latency -d 'Only with this latency or less, such as 60ms' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -l jitter -d 'Only with this jitter or less, a plain number such as 1.5' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clients" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l bandwidth -d 'Only with this much bandwidth or more, such as 10Mbit' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l latency -d 'Only with this latency or less, such as 60ms' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -l jitter -d 'Only with this jitter or less, a plain number such as 1.5' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand peers" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand bandwidth" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand bandwidth" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand bandwidth" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand bandwidth" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand bandwidth" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand bandwidth" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand bandwidth" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand latency" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand latency" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand latency" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand latency" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand latency" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand latency" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand latency" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand jitter" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand jitter" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand jitter" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand jitter" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand jitter" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand jitter" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand jitter" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -l fields -d 'What to list, with commas between: bw, lat, jit' -r -f -a "bw\t'Bandwidth'
lat\t'Latency'
jit\t'Jitter'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand qos" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l bandwidth -d 'Only with this much bandwidth or more, such as 10Mbit' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l latency -d 'Only with this latency or less, such as 60ms' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l jitter -d 'Only with this jitter or less, a plain number such as 1.5' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -l packet -d 'Price packet: gold, silver, bronze, or what the provider calls them' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand direct-clients" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand status" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand status" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand status" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand status" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand status" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand status" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l content -d 'Channel by its name' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l since -d 'From when on: a time such as 2026-11-21T20:00:00Z, or how long ago, such as 10min' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l id -d 'Only this user' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -l from -d 'Read what a source, relay or peer kept itself: http://HOST:PORT/history at its --metrics address' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clusters" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clusters" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clusters" -l token-file -d 'File with the token of a session at the provider, mode 0600, where the tracker asks for one' -r -F
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clusters" -l watch -d 'Ask again and again: on a terminal the table is painted anew, elsewhere every row says its round' -r
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clusters" -l format -d 'A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere' -r -f -a "auto\t'A table on a terminal, JSON lines elsewhere'
table\t'A table'
json\t'JSON lines'"
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand clusters" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand completions" -s h -l help -d 'Print help'
