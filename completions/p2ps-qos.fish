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
complete -c p2ps-qos -n "__fish_p2ps_qos_using_subcommand completions" -s h -l help -d 'Print help'
