import QMCommands

TuneCommand.start()
