# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_p2ps_source_global_optspecs
    string join \n i/input= pace= on-eof= tee= sign-delay= chunk-packets= substreams= seal channel= title= tracker= tls-ca= key= state-dir= window= max-children= upload-limit= allow= token-file= listen= bind-dev= 4/ipv4 6/ipv6 stats= stats-interval= metrics= config= print-config check-config dry-run on-ready= on-exit= ready-fd= pid-file= seed= log-level= log-format= v/verbose q/quiet no-progress h/help V/version
end

function __fish_p2ps_source_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_p2ps_source_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_p2ps_source_using_subcommand
    set -l cmd (__fish_p2ps_source_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -s i -l input -d 'Media to stream: -, fd:N, PATH, udp://HOST:PORT, rtp://HOST:PORT or unix:PATH' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l pace -d 'How fast to read: by the stream\'s clock (pcr; the default for files) or as it comes (none)' -r -f -a "pcr\t'By the program clock of the transport stream'
none\t'As it comes'"
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l on-eof -d 'What to do when the input ends: end the channel, or wait for the next encoder' -r -f -a "exit\t'End the channel with a signed mark'
wait\t'Keep the channel and open the input again'"
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l tee -d 'Write the media that was read to this output as well; - is standard output' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l sign-delay -d 'Longest wait before what was read is signed and sent: 1ms to 2s [default: 20ms, of a slow stream up to 100ms]' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l chunk-packets -d 'Transport stream packets in a chunk: 1 to 7, 6 with --seal; fewer where the path takes only small datagrams [default: as many as go]' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l substreams -d 'Substreams that the stream is cut into, so that a viewer can get it from several parents, each a part: 1, 2, 4 or 8' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l channel -d 'Name of the channel at its trackers: 1 to 64 of A-Z a-z 0-9 . _ -' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l title -d 'Title for people' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l tracker -d 'Tracker: http://HOST[:PORT][/PATH], https://..., or HOST[:PORT] with port 7851 unless told. Repeatable' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l tls-ca -d 'Trust https trackers whose certificate these authorities (PEM) signed, beside the usual ones' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l key -d 'Secret key that signs the channel; mode 0600 [default: NAME.key in the state directory, made when missing]' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l state-dir -d 'Directory for keys and counters [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l window -d 'How much of the live stream to hold, for repair and for late joiners: 1s to 1h [default: 1min]' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l max-children -d 'Most children to serve [default: as many as the uplink carries]' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l upload-limit -d 'Most upload to use, all children together, for example 8Mbit' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l allow -d 'Give media only to those who prove a key of this list, one a line as p2ps-source keygen prints it. SIGHUP reads it again' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l token-file -d 'File with NAME:SECRET of a user in one line, or with a ticket of his; mode 0600. - for standard input, /dev/fd/N for an open descriptor' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l listen -d 'Address to listen on: ADDR:PORT, [V6]:PORT, or :PORT for all addresses; port 0 takes any free one [default: :7850]' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l bind-dev -d 'Use this network interface only' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l stats -d 'Write records (JSON lines) to -, fd:N, PATH, unix:PATH or udp://HOST:PORT. Repeatable' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l stats-interval -d 'Time between interval records: 100ms to 1h' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l metrics -d 'Serve Prometheus metrics over HTTP at this address' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l config -d 'Read settings from this TOML file; keys are the long option names. Flags and P2PS_* win over it' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l on-ready -d 'Run this with sh -c once everything is bound; facts are in P2PS_FACT_*' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l on-exit -d 'Run this with sh -c at the end; facts are in P2PS_FACT_*' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l ready-fd -d 'Write one line to this descriptor once everything is bound: 3 to 1023' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l pid-file -d 'Write the process id to this file, and remove it at the end' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l seed -d 'Draw every random choice but keys from this number, to repeat a run' -r
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l log-level -d 'Least serious message to show' -r -f -a "off\t'Nothing'
error\t'What ends the tool, or costs media'
warn\t'What somebody should look at'
info\t'What happened'
debug\t'Why it happened'
trace\t'Every step'"
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l log-format -d 'Form of messages on standard error' -r -f -a "text\t'One line of words'
json\t'One JSON object a line'"
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l seal -d 'Seal the media: only those whom the tracker lets watch can read it, and relays pass it on unread. The channel has to be closed at its tracker'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l print-config -d 'Print every setting and where it came from, and exit'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l check-config -d 'Check options and configuration, and exit: 0 or 2'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l dry-run -d 'Do everything up to the first packet: open, read, bind; then exit. A peer asks its trackers what it would get'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -s v -l verbose -d 'Say more; twice for everything'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -l no-progress -d 'Show no progress line on a terminal'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -s V -l version -d 'Print version'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -f -a "keygen" -d 'Make a secret key and print its channel id'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -f -a "ticket" -d 'Print one word with which others can join'
complete -c p2ps-source -n "__fish_p2ps_source_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand keygen" -s o -l output -d 'File to write the key to, which must not exist; - prints the key itself, and the channel id on standard error' -r
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand keygen" -l algorithm -d 'Signature algorithm' -r -f -a "ed25519\t'Ed25519: small and quick; what our own tools prefer'
p256\t'ECDSA on P-256 with SHA-256'
p384\t'ECDSA on P-384 with SHA-384'"
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand keygen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand ticket" -l key -d 'Secret key of the channel; mode 0600' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand ticket" -l channel -d 'Name of the channel; without --key, its key in the state directory is used' -r
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand ticket" -l state-dir -d 'Directory for keys and counters [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/p2ps]' -r -F
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand ticket" -l tracker -d 'Tracker that knows the channel. Repeatable' -r
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand ticket" -l relay -d 'Source or relay that carries the channel: HOST[:PORT]. Repeatable' -r
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand ticket" -l uri -d 'Print a p2ps:// address instead: of the relays when there are any, else of the trackers'
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand ticket" -s h -l help -d 'Print help'
complete -c p2ps-source -n "__fish_p2ps_source_using_subcommand completions" -s h -l help -d 'Print help'
