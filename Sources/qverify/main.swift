import QMCommands

VerifyCommand.start()
