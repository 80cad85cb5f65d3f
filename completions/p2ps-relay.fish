# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_p2ps_relay_global_optspecs
    string join \n channel= tracker= tls-ca= parent= latency= from= timeout= ask= record= o/output= key= token-file= window= max-children= upload-limit= cluster= capacity= offer= price= user= allow= listen= bind-dev= 4/ipv4 6/ipv6 stats= stats-interval= metrics= config= print-config check-config dry-run on-ready= on-exit= ready-fd= pid-file= seed= log-level= log-format= v/verbose q/quiet no-progress h/help V/version
end

function __fish_p2ps_relay_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_p2ps_relay_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_p2ps_relay_using_subcommand
    set -l cmd (__fish_p2ps_relay_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l channel -d 'Channel to carry, by its name at the trackers given, or by its id. Repeatable' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l parent -d 'Fetch from this source, relay or peer: HOST[:PORT], port 7850 unless told. Repeatable, in order of preference' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l latency -d 'Play this long after the source signed, to leave time for repair: 0s to 10min [default: 1s]' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l from -d 'Where to begin [default: live]' -r -f -a "live\t'The newest point where a player can begin'
oldest\t'The oldest such point that the neighbours still hold'"
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l timeout -d 'Give up when there is no first media after this long: 1ms to 1d [default: wait for ever]' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l ask -d 'Join when a peer that proves a key of this list answers watch or record, and not before; one key a line as p2ps-source keygen prints it. SIGHUP reads it again' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l record -d 'File for the media when the answer is record, from the oldest that can be had, and to give it from to those who fetch it later; one that is there is gone on with. With --ask, one channel only' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -s o -l output -d 'Also write the media here: -, fd:N, PATH, udp://HOST:PORT, rtp://HOST:PORT, unix:PATH, http://ADDR:PORT/. Repeatable; one channel only' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l key -d 'Secret key to prove to parents that ask for one; mode 0600, made by p2ps-source keygen [default with --allow, --token-file, --ask or --answer: peer.key in the state directory, made when missing]' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l token-file -d 'File with NAME:SECRET of a user in one line, or with a ticket of his; mode 0600. - for standard input, /dev/fd/N for an open descriptor' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l window -d 'How much of the live stream to hold, for repair and for late joiners: 1s to 1h [default: 1min]' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l max-children -d 'Most children to serve [default: as many as the uplink carries]' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l upload-limit -d 'Most upload to use, all children together, for example 8Mbit' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l cluster -d 'Serve this cluster of a tracker that places viewers by clusters; auto leaves it to the tracker' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l capacity -d 'What the relay may send to its cluster, for example 100Mbit; with --cluster' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l offer -d 'Serve for the provider of the channel under a contract, with so much upload, which is also the --upload-limit unless that is given; with --price' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l price -d 'What the upload offered costs: 0.02/minute, 0.50/hour, or 3.00/content' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l user -d 'Name of the account at the provider that is paid [default: the relay\'s own id, another one each start]' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l allow -d 'Give media only to those who prove a key of this list, one a line as p2ps-source keygen prints it. SIGHUP reads it again' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l listen -d 'Address to listen on: ADDR:PORT, [V6]:PORT, or :PORT for all addresses; port 0 takes any free one [default: :7850]' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l bind-dev -d 'Use this network interface only' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l stats -d 'Write records (JSON lines) to -, fd:N, PATH, unix:PATH or udp://HOST:PORT. Repeatable' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l stats-interval -d 'Time between interval records: 100ms to 1h' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l metrics -d 'Serve Prometheus metrics over HTTP at this address' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l config -d 'Read settings from this TOML file; keys are the long option names. Flags and P2PS_* win over it' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l on-ready -d 'Run this with sh -c once everything is bound; facts are in P2PS_FACT_*' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l on-exit -d 'Run this with sh -c at the end; facts are in P2PS_FACT_*' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l ready-fd -d 'Write one line to this descriptor once everything is bound: 3 to 1023' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l pid-file -d 'Write the process id to this file, and remove it at the end' -r -F
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l seed -d 'Draw every random choice but keys from this number, to repeat a run' -r
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l log-level -d 'Least serious message to show' -r -f -a "off\t'Nothing'
error\t'What ends the tool, or costs media'
warn\t'What somebody should look at'
info\t'What happened'
debug\t'Why it happened'
trace\t'Every step'"
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l log-format -d 'Form of messages on standard error' -r -f -a "text\t'One line of words'
json\t'One JSON object a line'"
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l print-config -d 'Print every setting and where it came from, and exit'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l check-config -d 'Check options and configuration, and exit: 0 or 2'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l dry-run -d 'Do everything up to the first packet: open, read, bind; then exit. A peer asks its trackers what it would get'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -s v -l verbose -d 'Say more; twice for everything'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -l no-progress -d 'Show no progress line on a terminal'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -s V -l version -d 'Print version'
complete -c p2ps-relay -n "__fish_p2ps_relay_needs_command" -a "completions" -d 'Print completions for a shell'
complete -c p2ps-relay -n "__fish_p2ps_relay_using_subcommand completions" -s h -l help -d 'Print help'
