import QMCommands

OperatorListing.startIfAsked()
ConvertCommand.start()
